# Fashion-MNIST, MLP 784-128-128-10, SGD clients, beside the paper's problem: more clients, label skew.
# Source: comparisons of docs/results_real.md; methods, grids, equal budgets: config/_base_/results_real.py.
# Run:    make results-real (those without a table yet); one of them: python src/main.py --config config/results_real/fmnist_mlp.py FLAGS DATA --run_dir runs/results_real/NAME
#   fmnist_mlp_k32: Fashion-MNIST, MLP, K = 32, H = 4, B = 32. --num_grads 32 --local_batch_size 32
#   fmnist_mlp_dirichlet: Fashion-MNIST, MLP, Dirichlet 0.3, 8 of 64 clients, H = 8. --partition dirichlet --partition_alpha 0.3 --num_clients 64 --num_local_steps 8
# Expect: About 12, 15 minutes, in this order, of two quiet cores.
_base_ = "../_base_/results_real.py"
task = "image-mlp-fmst"
local_batch_size = 128
tuning_seeds = 2
_methods = _base_._methods
entrants = _methods["sgd, fine, 200 rounds"]
