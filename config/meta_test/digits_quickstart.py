# LAgg-A after config/meta_train/digits_quickstart.py: the pretrained aggregator, the one just meta-trained, the same
# one before meta-training, and FedAvg and server momentum tuned, on images that none of them has seen.
#
# Source:  config/meta_train/digits_quickstart.py makes both checkpoints.
# Run:     python src/main.py --config config/meta_test/digits_quickstart.py
# Expect:  a table of loss and accuracy by round over 10 seeds, and report.html; under a minute on two cores.
_base_ = "../_base_/problems/digits.py"

run_type = "compare"
name = "quickstart"
eval_every = 1
_checkpoints = "checkpoints/fedlagg-adafac32_mlp32_digits_8_K8_H4_0.5_quickstart"
entrants = [
    dict(
        label="FedAvg", optimizer="fedavg", sweep=dict(local_learning_rate=[0.25, 0.5, 0.75, 1.0, 1.25, 1.5])
    ),
    dict(
        label="SlowMo",
        optimizer="fedavgm",
        tune_by="mean",
        sweep=dict(
            local_learning_rate=[0.35, 0.5, 0.7, 1.0],
            learning_rate=[0.7, 1.0, 1.5, 2.0, 3.0],  # slow steps, in mean deltas
            beta=[0.1, 0.3, 0.5, 0.7],
        ),
    ),
    dict(
        label="lagg-set-digits, pretrained",
        optimizer="fedlagg-set",
        test_checkpoint="lagg-set-digits",
        tune_by="mean",
        sweep=dict(local_learning_rate=[0.2, 0.35, 0.5, 0.7, 1.0, 1.4]),
    ),
    dict(label="LAgg-A, quickstart", optimizer="fedlagg-adafac", test_checkpoint=_checkpoints),
    dict(
        label="LAgg-A, untrained",
        optimizer="fedlagg-adafac",
        test_checkpoint=_checkpoints + "/global_step0.safetensors",
    ),
]
