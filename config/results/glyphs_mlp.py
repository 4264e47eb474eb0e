# Out of distribution: glyphs of 14x14, MLP 196-64-10, H = 8.
# Source: a cell of docs/results.md; entrants and grids: config/_base_/results.py.
# Run:    python src/main.py --config config/results/glyphs_mlp.py (all cells: make results)
# Expect: table.csv and report.html in runs/; some minutes on two quiet cores.
_base_ = "../_base_/results.py"
task = "mlp64_glyphs_14"
num_local_steps = 8
