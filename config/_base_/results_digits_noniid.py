# The cells of docs/results.md on digits with Dirichlet 0.1, 8 of 64 clients, which lagg-set-digits-noniid was meta-trained
# on. Its network off is FedAvg. A base, not to be run by itself.
_base_ = "results.py"
task = "mlp32_digits_8"
num_clients = 64
partition = "dirichlet"
_momentum = dict(
    local_learning_rate=[0.2, 0.35, 0.5, 0.7, 1.0],
    learning_rate=[0.7, 1.0, 1.5, 2.0, 3.0],
    beta=[0.1, 0.3, 0.5, 0.7],
)
_set = dict(
    optimizer="fedlagg-set",
    sweep=dict(local_learning_rate=[0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8]),
)
_noniid = "lagg-set-digits-noniid"
entrants = _base_.entrants + [
    dict(label="Nesterov (by mean)", optimizer="diloco", local_optimizer="sgd", tune_by="mean", sweep=_momentum),
    dict(label="Nesterov (by last)", optimizer="diloco", local_optimizer="sgd", tune_by="last", sweep=_momentum),
    dict(label=_noniid, tune_by="mean", test_checkpoint=_noniid, **_set),
    dict(label=_noniid + " (by last)", tune_by="last", test_checkpoint=_noniid, **_set),
    dict(label=_noniid + ", seed 1", tune_by="mean", test_checkpoint=_noniid + "-seed1", **_set),
    dict(label=_noniid + ", seed 2", tune_by="mean", test_checkpoint=_noniid + "-seed2", **_set),
]
