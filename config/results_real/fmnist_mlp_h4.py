# Fashion-MNIST, MLP 784-128-128-10, K = 8, H = 4, B = 128, SGD clients: the paper's problem.
# Source: Joseph et al., TMLR 2025, arXiv:2312.02204 (1,000 rounds there); methods, grids, equal budgets:
#         config/_base_/results_real.py. A comparison of docs/results_real.md, rows of `make claims CLAIM=evidence`.
# Run:    make results-real; or python src/main.py --config config/results_real/fmnist_mlp_h4.py DATA
# Expect: FedAvg at a test loss of .39 after 200 rounds with H 4. LAgg-A and LOpt-A are those that the base names.
#         About 12 minutes of two quiet cores.
_base_ = "../_base_/results_real.py"
task = "image-mlp-fmst"
local_batch_size = 128
tuning_seeds = 2
_methods = _base_._methods
_adam = _base_._adam
entrants = _methods["sgd, fine, 200 rounds"] + [dict(_adam, local_batch_size=4 * 128)] + _base_._published
