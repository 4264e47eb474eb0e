# Adam, data-parallel: one step a round, K x B examples. An MLP 196-64-10 on glyphs of 14x14 pixels.
# Source: Kingma and Ba 2015, arXiv:1412.6980.
# Run:    python src/main.py --config config/meta_test/adam_glyphs.py
# Expect: 100 rounds of 10 seeds; rounds.csv and report.html in runs/. The rates are starting points, not
#         tuned: see config/sweeps. Needs nothing: the images are drawn once and cached; minutes on 2 cores.
_base_ = "../_base_/meta_test_glyphs.py"
optimizer = "adam"
learning_rate = 0.01
