# Out of distribution: digits, MLP 64-128-10.
# Source: a cell of docs/results.md; entrants and grids: config/_base_/results.py.
# Run:    python src/main.py --config config/results/wider.py (all cells: make results)
# Expect: table.csv and report.html in runs/; two minutes on two quiet cores.
_base_ = "../_base_/results.py"
task = "mlp128_digits_8"
