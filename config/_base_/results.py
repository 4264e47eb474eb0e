# Entrants and grids of the comparisons of docs/results.md. A base, not to be run by itself.
#
# Momentum's slow steps are in units of the mean delta: fedavgm's v <- beta v + g, params + rate * v is SlowMo's rule
# (Wang et al., arXiv:1910.00643) with slowmo_learning_rate = rate * gamma, so that rate 3 is a slow step of 3 mean
# deltas. lagg-set with its network off is FedAvg. A grid grows beyond edges that its best point lies on.
run_type = "compare"
num_grads = 8
num_local_steps = 4
local_batch_size = 32
num_inner_steps = 100
eval_every = 2
num_runs = 10
widen = 5
_rates = [0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8]
_momentum = dict(
    local_learning_rate=[0.2, 0.35, 0.5, 0.7, 1.0],
    learning_rate=[0.7, 1.0, 1.5, 2.0, 3.0],
    beta=[0.1, 0.3, 0.5, 0.7, 0.85],
)
_any_k = dict(optimizer="fedlagg-set", sweep=dict(local_learning_rate=_rates))
_set = dict(_any_k, test_checkpoint="lagg-set")
_slow = dict(_momentum, beta=[0.1, 0.3, 0.5, 0.7])
_nesterov = [
    dict(label="Nesterov (by mean)", optimizer="diloco", local_optimizer="sgd", tune_by="mean", sweep=_slow),
    dict(label="Nesterov (by last)", optimizer="diloco", local_optimizer="sgd", tune_by="last", sweep=_slow),
]
entrants = [
    dict(label="FedAvg", optimizer="fedavg", tune_by="last", sweep=dict(local_learning_rate=_rates)),
    dict(
        label="FedAvg (by mean)", optimizer="fedavg", tune_by="mean", sweep=dict(local_learning_rate=_rates)
    ),
    dict(label="SlowMo (by mean)", optimizer="fedavgm", tune_by="mean", sweep=_momentum),
    dict(label="SlowMo (by last)", optimizer="fedavgm", tune_by="last", sweep=_momentum),
    dict(label="lagg-set", tune_by="mean", **_set),
    dict(label="lagg-set (by last)", tune_by="last", **_set),
]
