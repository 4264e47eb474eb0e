# SlowMo. An MLP 196-64-10 on glyphs of 14x14 pixels.
# Source: Wang et al. 2020, arXiv:1910.00643.
# Run:    python src/main.py --config config/meta_test/fedavg-slowmo_glyphs.py
# Expect: 100 rounds of 10 seeds; rounds.csv and report.html in runs/; minutes on 2 cores, the images are drawn once and
#         cached. Other optimizers: config/meta_test/glyphs.py, which this is with --optimizer fedavg-slowmo.
_base_ = "glyphs.py"
optimizer = "fedavg-slowmo"
