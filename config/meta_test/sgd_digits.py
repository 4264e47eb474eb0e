# SGD, data-parallel: one step a round, K x B examples. An MLP 64-32-10 on scikit-learn's digits.
# Source: Robbins and Monro 1951.
# Run:    python src/main.py --config config/meta_test/sgd_digits.py
# Expect: 100 rounds of 10 seeds; rounds.csv and report.html in runs/. The rates are starting points, not
#         tuned: see config/sweeps. Test loss near .163 at round 100; about 10 seconds on 2 cores.
_base_ = "../_base_/meta_test_digits.py"
optimizer = "sgd"
learning_rate = 0.5
