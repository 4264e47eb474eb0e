# The cells of docs/results.md on digits with Dirichlet 0.1, 8 of 64 clients, which lagg-set-digits-noniid was meta-trained
# on. Its network off is FedAvg. A base, not to be run by itself.
_base_ = "results.py"
task = "mlp32_digits_8"
num_clients = 64
partition = "dirichlet"
_set = _base_._any_k
_noniid = "lagg-set-digits-noniid"
entrants = _base_.entrants + _base_._nesterov + [
    dict(label=_noniid, tune_by="mean", test_checkpoint=_noniid, **_set),
    dict(label=_noniid + " (by last)", tune_by="last", test_checkpoint=_noniid, **_set),
    dict(label=_noniid + ", seed 1", tune_by="mean", test_checkpoint=_noniid + "-seed1", **_set),
    dict(label=_noniid + ", seed 2", tune_by="mean", test_checkpoint=_noniid + "-seed2", **_set),
]
