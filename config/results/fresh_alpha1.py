# Never looked at: digits, Dirichlet 1.0, 10 of 50 clients, H = 5.
# Source: a cell of docs/results.md; entrants and grids: config/_base_/results.py.
# Run:    python src/main.py --config config/results/fresh_alpha1.py (all cells: make results)
# Expect: table.csv and report.html in runs/; some minutes on two quiet cores.
_base_ = "../_base_/results.py"
task = "mlp32_digits_8"
partition = "dirichlet"
partition_alpha = 1.0
num_grads = 10
num_clients = 50
num_local_steps = 5
