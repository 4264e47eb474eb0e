# Fashion-MNIST, a conv net with GroupNorm (16, 32 and 64 channels), SGD clients, 200 rounds of 1,024 examples.
# Source: comparisons of docs/results_real.md; methods, grids, equal budgets: config/_base_/results_real.py.
# Run:    make results-real (those without a table yet); one of them: python src/main.py --config config/results_real/fmnist_conv.py FLAGS DATA --run_dir runs/results_real/NAME
#   fmnist_conv_h8: Fashion-MNIST, conv net, K = 8, H = 8, B = 16.
#   fmnist_conv_dirichlet: Fashion-MNIST, conv net, Dirichlet 0.3, 8 of 64 clients, H = 8, B = 16. --partition dirichlet --partition_alpha 0.3 --num_clients 64
# Expect: FedAvg above 88 % when IID (88.3 % after 200 rounds with H 4, B 32). About 27, 27 minutes, in this order, of two quiet cores.
_base_ = "../_base_/results_real.py"
task = "convgn16x32x64_fmnist_28"
num_local_steps = 8
local_batch_size = 16
eval_every = 10
tuning_seeds = 1
_methods = _base_._methods
entrants = _methods["sgd, coarse, 200 rounds"]
