# The cells of docs/results.md with what lagg-set was meta-trained on: two more meta-seeds of it, and more rules. A
# base, not to be run by itself.
_base_ = "results.py"
_rates = [0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8]
_set = dict(optimizer="fedlagg-set", tune_by="mean", sweep=dict(local_learning_rate=_rates))
entrants = _base_.entrants + [
    dict(label="lagg-set, seed 1", test_checkpoint="lagg-set-seed1", **_set),
    dict(label="lagg-set, seed 2", test_checkpoint="lagg-set-seed2", **_set),
    dict(
        label="FedAdam",
        optimizer="fedadam",
        sweep=dict(local_learning_rate=[0.1, 0.2, 0.5, 1.0, 1.4, 2.0], learning_rate=[1e-3, 3e-3, 1e-2, 3e-2, 0.1]),
    ),
    dict(
        label="DiLoCo",
        optimizer="diloco",
        local_optimizer="adamw",
        sweep=dict(
            local_learning_rate=[0.001, 0.003, 0.01, 0.03, 0.1], learning_rate=[0.1, 0.2, 0.3, 0.5, 0.7, 1.0], beta=[0.4, 0.6, 0.8, 0.9]
        ),
    ),
]
