# Text; a coarse grid, for time.
# Source: comparisons of docs/results.md; grids that several share: config/_base_/results.py.
# Run:    make results (those without a table yet); one of them: python src/main.py --config config/results/text.py FLAGS --run_dir runs/results/NAME
#   text: Out of distribution: pytext, a transformer of 2 layers and width 32, K = 4, B = 8.
#   fresh_text: Never looked at: pytext of 16 tokens, a transformer of 2 layers and width 32, K = 8, H = 2, B = 8. --task transformer32_pytext_16 --num_grads 8 --num_local_steps 2
# Expect: table.csv and report.html in runs/; some minutes each on two quiet cores.
_base_ = "../_base_/results.py"
task = "transformer32_pytext_8"
num_grads = 4
local_batch_size = 8
eval_every = 5
eval_examples = 1000
_rates = [0.35, 0.7, 1.4, 2.8]
_momentum = dict(
    local_learning_rate=[0.7, 1.4],
    learning_rate=[1.0, 2.0, 3.0],
    beta=[0.6, 0.85],
)
_set = dict(optimizer="fedlagg-set", test_checkpoint="lagg-set", sweep=dict(local_learning_rate=_rates))
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
