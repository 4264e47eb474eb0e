# Never looked at: glyphs of 14x14, MLP 196-64-32-10, a font a client, 8 of all, H = 4.
# Source: a cell of docs/results.md; entrants and grids: config/_base_/results.py.
# Run:    python src/main.py --config config/results/fresh_fonts.py (all cells: make results)
# Expect: table.csv and report.html in runs/; some minutes on two quiet cores.
_base_ = "../_base_/results.py"
task = "mlp64x32_glyphs_14"
partition = "natural"
