# In distribution: glyphs, a conv net of 8 and 16 channels, H = 8.
# Source: a cell of docs/results.md; entrants and grids: config/_base_/results_conv.py.
# Run:    python src/main.py --config config/results/conv_h8.py (all cells: make results)
# Expect: table.csv and report.html in runs/; some minutes on two quiet cores.
_base_ = "../_base_/results_conv.py"
num_local_steps = 8
