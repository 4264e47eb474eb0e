# SlowMo. An MLP 784-128-128-10 on glyphs.
# Source: Wang et al. 2020, arXiv:1910.00643.
# Run:    python src/main.py --config config/meta_test/fedavg-slowmo_glyphs.py
# Expect: 200 rounds of 10 seeds; rounds.csv and report.html in runs/. The rates are starting points, not
#         tuned: see config/sweeps. Needs nothing: the images are drawn once and cached; minutes on 2 cores.
_base_ = "../_base_/meta_test_glyphs.py"
optimizer = "fedavg-slowmo"
slowmo_learning_rate = 0.5
beta = 0.7
