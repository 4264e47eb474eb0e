# Never looked at: glyphs of 14x14, a conv net of 8 and 16 channels, K = 4, H = 4.
# Source: a cell of docs/results.md; entrants and grids: config/_base_/results_conv.py.
# Run:    python src/main.py --config config/results/fresh_conv_glyphs14.py (all cells: make results)
# Expect: table.csv and report.html in runs/; some minutes on two quiet cores.
_base_ = "../_base_/results_conv.py"
task = "conv8x16_glyphs_14"
num_grads = 4
entrants = _base_.entrants[:4] + _base_.entrants[6:8]  # FedAvg, SlowMo and lagg-set; the rest left out for time
