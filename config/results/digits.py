# Digits, with what lagg-set and lagg-set-digits were meta-trained on: more meta-seeds of them, and more rules.
# Source: comparisons of docs/results.md; grids that several share: config/_base_/results.py.
# Run:    make results (those without a table yet); one of them: python src/main.py --config config/results/digits.py FLAGS --run_dir runs/results/NAME
#   digits_h8: In distribution: digits, MLP 64-32-10, H = 8. --num_local_steps 8
#   digits_h16: In distribution: digits, MLP 64-32-10, H = 16. --num_local_steps 16
# Expect: table.csv and report.html in runs/; some minutes each on two quiet cores.
_base_ = "../_base_/results.py"
task = "mlp32_digits_8"
_set = _base_._any_k
entrants = (
    _base_.entrants
    + _base_._nesterov
    + [
        dict(label="lagg-set, seed 1", tune_by="mean", test_checkpoint="lagg-set-seed1", **_set),
        dict(label="lagg-set, seed 2", tune_by="mean", test_checkpoint="lagg-set-seed2", **_set),
        dict(
            label="network off (lagg-set-digits)",
            optimizer="fedavgm",
            learning_rate=1.0,
            beta=0.6,
            tune_by="mean",
            sweep=_set["sweep"],
        ),
        dict(label="lagg-set-digits", tune_by="mean", test_checkpoint="lagg-set-digits", **_set),
        dict(label="lagg-set-digits (by last)", tune_by="last", test_checkpoint="lagg-set-digits", **_set),
        dict(
            label="lagg-set-digits, seed 1", tune_by="mean", test_checkpoint="lagg-set-digits-seed1", **_set
        ),
        dict(
            label="lagg-set-digits, seed 2", tune_by="mean", test_checkpoint="lagg-set-digits-seed2", **_set
        ),
        dict(
            label="FedAdam",
            optimizer="fedadam",
            sweep=dict(
                local_learning_rate=[0.2, 0.35, 0.5, 0.7, 1.0, 1.4],
                learning_rate=[1e-3, 3e-3, 1e-2, 3e-2, 0.1],
            ),
        ),
        dict(
            label="DiLoCo",
            optimizer="diloco",
            local_optimizer="adamw",
            sweep=dict(
                local_learning_rate=[0.001, 0.003, 0.01, 0.03],
                learning_rate=[0.2, 0.4, 0.7, 1.0],
                beta=[0.3, 0.6, 0.9],
            ),
        ),
    ]
)
