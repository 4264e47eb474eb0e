# Never looked at: 26 glyphs of 20x20, MLP 400-64-26, H = 4.
# Source: a cell of docs/results.md; entrants and grids: config/_base_/results.py.
# Run:    python src/main.py --config config/results/fresh_glyphs26.py (all cells: make results)
# Expect: table.csv and report.html in runs/; some minutes on two quiet cores.
_base_ = "../_base_/results.py"
task = "mlp64_glyphs26_20"
