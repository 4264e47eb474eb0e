# SlowMo. An MLP 196-64-10 on glyphs of 14x14 pixels.
# Source: Wang et al. 2020, arXiv:1910.00643.
# Run:    python src/main.py --config config/meta_test/fedavg-slowmo_glyphs.py
# Expect: 100 rounds of 10 seeds; rounds.csv and report.html in runs/. The rates are starting points, not
#         tuned: see config/sweeps. Needs nothing: the images are drawn once and cached; minutes on 2 cores.
_base_ = "../_base_/meta_test_glyphs.py"
optimizer = "fedavg-slowmo"
slowmo_learning_rate = 0.5
beta = 0.7
