# Everybody's local rate is set: strong label skew, partial participation. Server momentum is tuned all the same.
# Source: comparisons of docs/results.md; grids that several share: config/_base_/results.py.
# Run:    make results (those without a table yet); one of them: python src/main.py --config config/results/noniid_rate.py FLAGS --run_dir runs/results/NAME
#   noniid_rate_01: Out of distribution: digits, Dirichlet 0.1, 16 of 64 clients, everybody's local rate 0.1. --local_learning_rate 0.1
#   noniid_rate_03: Out of distribution: digits, Dirichlet 0.1, 16 of 64 clients, everybody's local rate 0.3. --local_learning_rate 0.3
#   noniid_rate_10: Out of distribution: digits, Dirichlet 0.1, 16 of 64 clients, everybody's local rate 1.0. --local_learning_rate 1.0
# Expect: table.csv and report.html in runs/; a minute each on two quiet cores.
_base_ = "../_base_/results.py"
task = "mlp32_digits_8"
num_grads = 16
num_clients = 64
partition = "dirichlet"
_slow = dict(
    learning_rate=[0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.0, 3.0, 4.5, 6.0], beta=[0.1, 0.3, 0.5, 0.7, 0.85, 0.95]
)
entrants = [
    dict(label="FedAvg", optimizer="fedavg"),
    dict(label="SlowMo (by mean)", optimizer="fedavgm", tune_by="mean", sweep=_slow),
    dict(label="SlowMo (by last)", optimizer="fedavgm", tune_by="last", sweep=_slow),
    dict(label="lagg-set", optimizer="fedlagg-set", test_checkpoint="lagg-set"),
]
