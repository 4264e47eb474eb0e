# FedAvgM. An MLP 64-32-10 on scikit-learn's digits.
# Source: Hsu et al. 2019, arXiv:1909.06335.
# Run:    python src/main.py --config config/meta_test/fedavgm_digits.py
# Expect: 100 rounds of 10 seeds; rounds.csv and report.html in runs/. The rates are starting points, not
#         tuned: see config/sweeps. Test loss near .062 at round 100; about 10 seconds on 2 cores.
_base_ = "../_base_/meta_test_digits.py"
optimizer = "fedavgm"
learning_rate = 1.0
beta = 0.7
