# In distribution: glyphs, a conv net of 8 and 16 channels, H = 8.
# Source: a cell of docs/results.md; entrants and grids: config/_base_/results.py.
# Run:    python src/main.py --config config/results/conv_h8.py (all cells: make results)
# Expect: table.csv and report.html in runs/; about five minutes on two quiet cores.
_base_ = "../_base_/results_in_distribution.py"
task = "conv8x16_glyphs_8"
local_batch_size = 16
num_local_steps = 8
tasks_per_chunk = 32
