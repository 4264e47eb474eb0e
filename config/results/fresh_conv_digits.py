# Never looked at: digits, a conv net of 8 and 16 channels, H = 8.
# Source: a cell of docs/results.md; entrants and grids: config/_base_/results_conv.py.
# Run:    python src/main.py --config config/results/fresh_conv_digits.py (all cells: make results)
# Expect: table.csv and report.html in runs/; some minutes on two quiet cores.
_base_ = "../_base_/results_conv.py"
task = "conv8x16_digits_8"
num_local_steps = 8
entrants = _base_.entrants[:4] + _base_.entrants[6:8]  # FedAvg, SlowMo and lagg-set; the rest left out for time
