# In distribution: digits, Dirichlet 0.1, 8 of 64 clients, H = 8.
# Source: a cell of docs/results.md; entrants and grids: config/_base_/results_digits_noniid.py.
# Run:    python src/main.py --config config/results/digits_noniid_h8.py (all cells: make results)
# Expect: table.csv and report.html in runs/; a minute or two on two quiet cores.
_base_ = "../_base_/results_digits_noniid.py"
num_local_steps = 8
