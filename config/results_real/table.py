# A table: breast cancer (341 rows to train on), MLP 30-32-2, where fitting faster means overfitting sooner; B 16.
# Source: comparisons of docs/results_real.md; methods, grids, equal budgets: config/_base_/results_real.py.
# Run:    make results-real (those without a table yet); one of them: python src/main.py --config config/results_real/table.py FLAGS DATA --run_dir runs/results_real/NAME
#   breast_iid: Breast cancer, MLP, K = 8, H = 6, rows dealt to 8 clients. --partition iid
#   breast_dirichlet: Breast cancer, MLP, Dirichlet 0.3, 8 clients, H = 6. --partition dirichlet --partition_alpha 0.3
# Expect: TIME
_base_ = "../_base_/results_real.py"
task = "mlp32_breast_30"
num_local_steps = 6
local_batch_size = 16
_methods = _base_._methods
entrants = _methods["sgd, fine, 200 rounds"]
