# A learned aggregator against tuned baselines on digits.
# Source: config/meta_train/digits_quickstart.py makes the checkpoint; the baselines are in config/meta_test.
# Run:    python src/main.py --config config/meta_test/compare_digits.py
# Expect: table.csv and report.html in runs/; minutes on 2 cores. Every baseline is tuned over 12 points on
#         outer_valid. A best point on its grid's edge asks for a wider grid.
_base_ = "../_base_/meta_test_digits.py"
run_type = "compare"
entrants = [
    dict(
        label="FedAvg",
        optimizer="fedavg",
        sweep=dict(local_learning_rate=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.25, 1.5, 2.0]),
    ),
    dict(
        label="SlowMo",
        optimizer="fedavg-slowmo",
        sweep=dict(local_learning_rate=[0.5, 0.7], slowmo_learning_rate=[0.7, 1.4], beta=[0.3, 0.5, 0.7]),
    ),
    dict(
        label="Nesterov",
        optimizer="diloco",
        local_optimizer="sgd",
        sweep=dict(local_learning_rate=[0.5, 0.7], learning_rate=[0.7, 1.0], beta=[0.3, 0.5, 0.7]),
    ),
    dict(
        label="FedAdam",
        optimizer="fedadam",
        sweep=dict(local_learning_rate=[0.1, 0.3, 0.5], learning_rate=[0.01, 0.03, 0.1, 0.3]),
    ),
    dict(
        label="LAgg-A",
        optimizer="fedlagg-adafac",
        test_checkpoint="checkpoints/fedlagg-adafac32_mlp32_digits_8_K8_H4_0.5_quickstart",
    ),
]
