# Fashion-MNIST, MLP 784-128-128-10, K = 8, H = 16, B = 128, SGD clients: the paper's problem.
# Source: Joseph et al., TMLR 2025, arXiv:2312.02204 (1,000 rounds there); methods, grids, equal budgets:
#         config/_base_/results_real.py. A comparison of docs/results_real.md, rows of `make claims CLAIM=evidence`.
# Run:    make results-real; or python src/main.py --config config/results_real/fmnist_mlp_h16.py DATA
# Expect: FedAvg at a test loss of .39 after 200 rounds with H 4. LAgg-A and LOpt-A are those that the base names.
#         About 23 minutes of two quiet cores.
_base_ = "fmnist_mlp_h4.py"
num_local_steps = 16
tuning_seeds = 1
entrants = [
    dict(method, local_batch_size=16 * 128) if method["label"] == "Adam" else method
    for method in _base_.entrants
]
