# The cells of docs/results.md where everybody's local rate is given: strong label skew, partial participation. Server
# momentum is tuned all the same. A base, not to be run by itself.
_base_ = "results.py"
task = "mlp32_digits_8"
num_grads = 16
num_clients = 64
partition = "dirichlet"
_slow = dict(learning_rate=[0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.0, 3.0, 4.5, 6.0], beta=[0.1, 0.3, 0.5, 0.7, 0.85, 0.95])
entrants = [
    dict(label="FedAvg", optimizer="fedavg"),
    dict(label="SlowMo (by mean)", optimizer="fedavgm", tune_by="mean", sweep=_slow),
    dict(label="SlowMo (by last)", optimizer="fedavgm", tune_by="last", sweep=_slow),
    dict(label="lagg-set", optimizer="fedlagg-set", test_checkpoint="lagg-set"),
]
