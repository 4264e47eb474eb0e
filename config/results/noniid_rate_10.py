# Out of distribution: digits, Dirichlet 0.1, 16 of 64 clients, everybody's local rate 1.0.
# Source: a cell of docs/results.md; entrants and grids: config/_base_/results_rates.py.
# Run:    python src/main.py --config config/results/noniid_rate_10.py (all cells: make results)
# Expect: table.csv and report.html in runs/; a minute on two quiet cores.
_base_ = "../_base_/results_rates.py"
local_learning_rate = 1.0
