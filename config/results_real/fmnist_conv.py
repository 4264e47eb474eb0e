# Fashion-MNIST, a conv net with GroupNorm (16, 32, 64 channels, 30,000 numbers), SGD clients, B 32.
# Source: comparisons of docs/results_real.md; methods, grids, equal budgets: config/_base_/results_real.py.
# Run:    make results-real (those without a table yet); one of them: python src/main.py --config config/results_real/fmnist_conv.py FLAGS DATA --run_dir runs/results_real/NAME
#   fmnist_conv_h4: Fashion-MNIST, conv net, K = 8, H = 4.
#   fmnist_conv_h8: Fashion-MNIST, conv net, K = 8, H = 8, B = 16. --num_local_steps 8 --local_batch_size 16
#   fmnist_conv_dirichlet: Fashion-MNIST, conv net, Dirichlet 0.3, 8 of 64 clients, H = 8, B = 16. --partition dirichlet --partition_alpha 0.3 --num_clients 64 --num_local_steps 8 --local_batch_size 16
# Expect: TIME
_base_ = "../_base_/results_real.py"
task = "convgn16x32x64_fmnist_28"
tuning_seeds = 1
_methods = _base_._methods
entrants = _methods["sgd, coarse, 200 rounds"]
