# Conv nets on images that lagg-set has not seen: FedAvg, SlowMo and lagg-set; the rest left out for time.
# Source: comparisons of docs/results.md; grids that several share: config/_base_/results.py.
# Run:    make results (those without a table yet); one of them: python src/main.py --config config/results/fresh_conv.py FLAGS --run_dir runs/results/NAME
#   fresh_conv_digits: Never looked at: digits, a conv net of 8 and 16 channels, H = 8. --task conv8x16_digits_8 --num_local_steps 8
#   fresh_conv_glyphs14: Never looked at: glyphs of 14x14, a conv net of 8 and 16 channels, K = 4, H = 4. --task conv8x16_glyphs_14 --num_grads 4
# Expect: table.csv and report.html in runs/; some minutes each on two quiet cores.
_base_ = "conv.py"
entrants = _base_.entrants[:4] + _base_.entrants[6:8]
