# Breast cancer (341 rows to train on), MLP 30-32-2, SGD clients, B 16: fitting faster means overfitting sooner.
# Source: comparisons of docs/results_real.md; methods, grids, equal budgets: config/_base_/results_real.py.
# Run:    make results-real (those without a table yet); one of them: python src/main.py --config config/results_real/table.py FLAGS DATA --run_dir runs/results_real/NAME
#   breast_iid: Breast cancer, MLP, rows dealt to 8 clients, H = 6. --partition iid
#   breast_dirichlet: Breast cancer, MLP, Dirichlet 0.3, 8 clients, H = 6. --partition dirichlet --partition_alpha 0.3
# Expect: FedAvg at about 98 %; read the training loss and the early-stopped loss too. A few minutes in all.
_base_ = "../_base_/results_real.py"
task = "mlp32_breast_30"
num_local_steps = 6
local_batch_size = 16
num_inner_steps = 100
_methods = _base_._methods
entrants = _methods["sgd, fine, 100 rounds"]
