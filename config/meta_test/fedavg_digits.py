# FedAvg (local SGD). An MLP 64-32-10 on scikit-learn's digits.
# Source: McMahan et al. 2017, arXiv:1602.05629.
# Run:    python src/main.py --config config/meta_test/fedavg_digits.py
# Expect: 100 rounds of 10 seeds; rounds.csv and report.html in runs/. Test loss near .068 at round 100; about 10 seconds
#         on 2 cores. Other optimizers: config/meta_test/digits.py, which this is with --optimizer fedavg.
_base_ = "digits.py"
optimizer = "fedavg"
