# CIFAR-10 (a copy in JPEG), a conv net with GroupNorm (16, 32 and 64 channels), SGD clients, K 8, H 16, B 8.
# Source: comparisons of docs/results_real.md; methods, grids, equal budgets: config/_base_/results_real.py.
# Run:    make results-real (those without a table yet); one of them: python src/main.py --config config/results_real/c10_conv.py FLAGS DATA --run_dir runs/results_real/NAME
#   c10_conv_iid: CIFAR-10, conv net, K = 8, H = 16.
#   c10_conv_dirichlet: CIFAR-10, conv net, Dirichlet 0.3, 8 of 64 clients, H = 16. --partition dirichlet --partition_alpha 0.3 --num_clients 64
# Expect: FedAvg at about 60 % when IID (59.4 % after 300 rounds at rate .06, one seed): what 25 CPU seconds per run
#         allow; many short steps reach more than fewer large ones (56.5 % with H 4, B 32, 400 rounds).
#         About 41, 41 minutes, in this order, of two quiet cores.
_base_ = "../_base_/results_real.py"
task = "convgn16x32x64_c10_32"
num_local_steps = 16
local_batch_size = 8
num_inner_steps = 300
eval_every = 20
tuning_seeds = 1
_methods = _base_._methods
entrants = _methods["sgd, coarse, 300 rounds"]
