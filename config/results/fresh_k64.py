# Never looked at: digits, MLP 64-32-10, K = 64, H = 3.
# Source: a cell of docs/results.md; entrants and grids: config/_base_/results.py.
# Run:    python src/main.py --config config/results/fresh_k64.py (all cells: make results)
# Expect: table.csv and report.html in runs/; some minutes on two quiet cores.
_base_ = "../_base_/results.py"
task = "mlp32_digits_8"
num_grads = 64
num_local_steps = 3
