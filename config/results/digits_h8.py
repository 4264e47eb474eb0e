# In distribution: digits, MLP 64-32-10, H = 8.
# Source: a cell of docs/results.md; entrants and grids: config/_base_/results.py.
# Run:    python src/main.py --config config/results/digits_h8.py (all cells: make results)
# Expect: table.csv and report.html in runs/; about a minute on two quiet cores.
_base_ = "../_base_/results_in_distribution.py"
task = "mlp32_digits_8"
num_local_steps = 8
