# FedAvg (local SGD). An MLP 196-64-10 on glyphs of 14x14 pixels.
# Source: McMahan et al. 2017, arXiv:1602.05629.
# Run:    python src/main.py --config config/meta_test/fedavg_glyphs.py
# Expect: 100 rounds of 10 seeds; rounds.csv and report.html in runs/. The rates are starting points, not
#         tuned: see config/sweeps. Needs nothing: the images are drawn once and cached; minutes on 2 cores.
_base_ = "../_base_/meta_test_glyphs.py"
optimizer = "fedavg"
