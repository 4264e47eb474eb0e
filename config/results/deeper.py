# Out of distribution: digits, MLP 64-32-32-32-10.
# Source: a cell of docs/results.md; entrants and grids: config/_base_/results.py.
# Run:    python src/main.py --config config/results/deeper.py (all cells: make results)
# Expect: table.csv and report.html in runs/; a minute on two quiet cores.
_base_ = "../_base_/results.py"
task = "mlp32x32x32_digits_8"
