# DiLoCo: outer Nesterov over local AdamW. An MLP 64-32-10 on scikit-learn's digits.
# Source: Douillard et al. 2023, arXiv:2311.08105.
# Run:    python src/main.py --config config/meta_test/diloco_digits.py
# Expect: 100 rounds of 10 seeds; rounds.csv and report.html in runs/. The rates are starting points, not
#         tuned: see config/sweeps. Test loss near .068 at round 100; about 10 seconds on 2 cores.
_base_ = "../_base_/meta_test_digits.py"
optimizer = "diloco"
learning_rate = 0.7
beta = 0.9
local_optimizer = "adamw"
local_learning_rate = 0.003
