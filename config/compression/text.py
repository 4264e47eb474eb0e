# Loss by rounds and by bits on pytext, a transformer of width 32: FedAvg, Nesterov, lagg-set under compression.
# Source: methods are those of config/_base_/compression.py, on a coarser grid for time; a row of `make claims
#         CLAIM=round`.
# Run:    python src/main.py --config config/compression/text.py
# Expect: table.csv and report.html in runs/; half an hour on two quiet cores.
_base_ = "../_base_/compression.py"
task = "transformer32_pytext_8"
num_grads = 4
local_batch_size = 8
eval_examples = 500
num_inner_steps = 60
_sgd = dict(local_learning_rate=[0.7, 1.4, 2.8])
_outer = dict(local_learning_rate=[0.7, 1.4], learning_rate=[1.4, 2.8], beta=[0.6, 0.85])
entrants = [
    dict(method, sweep=_outer if method["optimizer"] == "diloco" else _sgd) for method in _base_.entrants
]
