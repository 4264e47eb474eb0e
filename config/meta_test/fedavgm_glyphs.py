# FedAvgM. An MLP 196-64-10 on glyphs of 14x14 pixels.
# Source: Hsu et al. 2019, arXiv:1909.06335.
# Run:    python src/main.py --config config/meta_test/fedavgm_glyphs.py
# Expect: 100 rounds of 10 seeds; rounds.csv and report.html in runs/. The rates are starting points, not
#         tuned: see config/sweeps. Needs nothing: the images are drawn once and cached; minutes on 2 cores.
_base_ = "../_base_/meta_test_glyphs.py"
optimizer = "fedavgm"
learning_rate = 1.0
beta = 0.7
