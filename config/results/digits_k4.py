# Out of distribution: digits, K = 4.
# Source: a cell of docs/results.md; entrants and grids: config/_base_/results.py.
# Run:    python src/main.py --config config/results/digits_k4.py (all cells: make results)
# Expect: table.csv and report.html in runs/; a minute on two quiet cores.
_base_ = "../_base_/results.py"
task = "mlp32_digits_8"
num_grads = 4
