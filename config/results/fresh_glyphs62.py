# Never looked at: 62 glyphs of 14x14, MLP 196-128-62, K = 16, H = 8.
# Source: a cell of docs/results.md; entrants and grids: config/_base_/results.py.
# Run:    python src/main.py --config config/results/fresh_glyphs62.py (all cells: make results)
# Expect: table.csv and report.html in runs/; some minutes on two quiet cores.
_base_ = "../_base_/results.py"
task = "mlp128_glyphs62_14"
num_grads = 16
num_local_steps = 8
