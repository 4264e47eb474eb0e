# Glyphs with a conv net, which lagg-set was meta-trained on. Grids are coarser than on digits and lie higher, for time.
# Source: comparisons of docs/results.md; grids that several share: config/_base_/results.py.
# Run:    make results (those without a table yet); one of them: python src/main.py --config config/results/conv.py FLAGS --run_dir runs/results/NAME
#   conv_h8: In distribution: glyphs, a conv net of 8 and 16 channels, H = 8. --num_local_steps 8
#   conv_h16: In distribution: glyphs, a conv net of 8 and 16 channels, H = 16. --num_local_steps 16
# Expect: table.csv and report.html in runs/; some minutes, ten with H = 16, on two quiet cores.
_base_ = "../_base_/results.py"
task = "conv8x16_glyphs_8"
local_batch_size = 16
tasks_per_chunk = 32
_rates = [0.2, 0.35, 0.7, 1.0, 1.4, 2.0, 2.8]
_momentum = dict(
    local_learning_rate=[0.25, 0.5, 1.0],
    learning_rate=[0.5, 1.0, 2.0, 3.0],
    beta=[0.6, 0.8, 0.95],
)
_set = dict(optimizer="fedlagg-set", test_checkpoint="lagg-set", sweep=dict(local_learning_rate=_rates))
entrants = [
    dict(label="FedAvg", optimizer="fedavg", tune_by="last", sweep=dict(local_learning_rate=_rates)),
    dict(
        label="FedAvg (by mean)", optimizer="fedavg", tune_by="mean", sweep=dict(local_learning_rate=_rates)
    ),
    dict(label="SlowMo (by mean)", optimizer="fedavgm", tune_by="mean", sweep=_momentum),
    dict(label="SlowMo (by last)", optimizer="fedavgm", tune_by="last", sweep=_momentum),
    dict(
        label="Nesterov (by mean)", optimizer="diloco", local_optimizer="sgd", tune_by="mean", sweep=_momentum
    ),
    dict(
        label="Nesterov (by last)", optimizer="diloco", local_optimizer="sgd", tune_by="last", sweep=_momentum
    ),
    dict(label="lagg-set", tune_by="mean", **_set),
    dict(label="lagg-set (by last)", tune_by="last", **_set),
    dict(label="lagg-set, seed 1", tune_by="mean", **dict(_set, test_checkpoint="lagg-set-seed1")),
    dict(label="lagg-set, seed 2", tune_by="mean", **dict(_set, test_checkpoint="lagg-set-seed2")),
]
