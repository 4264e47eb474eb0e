# The second half of `make quickstart`: the aggregator just meta-trained, the same one before meta-training, and FedAvg,
# SlowMo and Nesterov, all tuned on images that none of them is tested on.
#
# Source:  config/meta_train/quickstart.py makes both checkpoints; the problem is that one's.
# Run:     python src/main.py --config config/meta_test/quickstart.py
# Expect:  the learned one at FedAvg's last loss within half of its rounds. A table of loss and accuracy by round over
#          10 seeds, and report.html; a minute on two cores.
run_type = "compare"
name = "quickstart"
task = "mlp32_digits_8"
partition = "dirichlet"
num_clients = 64
num_grads = 8
num_local_steps = 4
local_batch_size = 32
num_inner_steps = 100
eval_every = 1
num_runs = 10
_rates = [0.1, 0.2, 0.35, 0.5, 0.7, 1.0]
_server = dict(
    local_learning_rate=[0.1, 0.2, 0.35, 0.5], learning_rate=[0.5, 1.0, 1.5], beta=[0.3, 0.5, 0.7, 0.9]
)
_checkpoints = "checkpoints/quickstart"
_learned = dict(optimizer="fedlagg-set", base="bank", tune_by="mean", sweep=dict(local_learning_rate=_rates))
_rivals = [
    dict(label="FedAvg", optimizer="fedavg", tune_by="last", sweep=dict(local_learning_rate=_rates)),
    dict(
        label="FedAvg (by mean)", optimizer="fedavg", tune_by="mean", sweep=dict(local_learning_rate=_rates)
    ),
    dict(label="SlowMo (by mean)", optimizer="fedavgm", tune_by="mean", sweep=_server),
    dict(label="Nesterov (by mean)", optimizer="diloco", tune_by="mean", sweep=_server),
]
entrants = [
    *_rivals,
    dict(_learned, label="untrained", test_checkpoint=_checkpoints + "/global_step0.safetensors"),
    dict(_learned, label="learned", test_checkpoint=_checkpoints),
]
