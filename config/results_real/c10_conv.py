# CIFAR-10 (a JPEG copy: its accuracies are not the published ones), a conv net with GroupNorm, SGD clients, B 32.
# Source: comparisons of docs/results_real.md; methods, grids, equal budgets: config/_base_/results_real.py.
# Run:    make results-real (those without a table yet); one of them: python src/main.py --config config/results_real/c10_conv.py FLAGS DATA --run_dir runs/results_real/NAME
#   c10_conv_iid: CIFAR-10, conv net, K = 8, H = 4.
#   c10_conv_dirichlet: CIFAR-10, conv net, Dirichlet 0.3, 8 of 64 clients, H = 4. --partition dirichlet --partition_alpha 0.3 --num_clients 64
# Expect: TIME
_base_ = "../_base_/results_real.py"
task = "convgn16x32x64_c10_32"
num_inner_steps = 400
tuning_seeds = 1
_methods = _base_._methods
entrants = _methods["sgd, coarse, 400 rounds"]
