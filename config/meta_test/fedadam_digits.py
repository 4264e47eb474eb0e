# FedAdam. An MLP 64-32-10 on scikit-learn's digits.
# Source: Reddi et al. 2021, arXiv:2003.00295, Algorithm 2.
# Run:    python src/main.py --config config/meta_test/fedadam_digits.py
# Expect: 100 rounds of 10 seeds; rounds.csv and report.html in runs/. The rates are starting points, not
#         tuned: see config/sweeps. Test loss near .069 at round 100; about 10 seconds on 2 cores.
_base_ = "../_base_/meta_test_digits.py"
optimizer = "fedadam"
learning_rate = 0.03
