# In distribution: digits, MLP 64-32-10, H = 8.
# Source: a cell of docs/results.md; entrants and grids: config/_base_/results_digits.py.
# Run:    python src/main.py --config config/results/digits_h8.py (all cells: make results)
# Expect: table.csv and report.html in runs/; some minutes on two quiet cores.
_base_ = "../_base_/results_digits.py"
num_local_steps = 8
