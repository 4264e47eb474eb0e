# A learned aggregator against tuned baselines on digits.
# Source: config/meta_train/digits_quickstart.py makes the checkpoint; the baselines are in config/meta_test.
# Run:    python src/main.py --config config/meta_test/compare_digits.py
# Expect: table.csv and report.html in runs/; minutes on 2 cores. Every baseline is tuned over 48 points on
#         outer_valid; every entrant takes the same 1,024 examples per round, also the data-parallel
#         SGD and Adam. A best point on its grid's edge asks for a wider grid.
_base_ = "../_base_/problems/digits.py"
run_type = "compare"
eval_every = 1
_examples_a_client = 128  # H x B of the others, in one step


def _geometric(low, high):
    """48 rates from low to high."""
    return [round(low * (high / low) ** (i / 47), 6) for i in range(48)]


_adaptive = dict(
    local_learning_rate=[0.3, 0.5, 0.7, 1.0, 1.4, 2.0],
    learning_rate=[0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1],
)
entrants = [
    dict(label="FedAvg", optimizer="fedavg", sweep=dict(local_learning_rate=_geometric(0.05, 3.0))),
    dict(
        label="SlowMo",
        optimizer="fedavg-slowmo",
        sweep=dict(
            local_learning_rate=[0.3, 0.5, 0.7, 1.0],
            slowmo_learning_rate=[0.7, 1.0, 1.4, 2.0],
            beta=[0.3, 0.5, 0.7],
        ),
    ),
    dict(
        label="FedAvgM",
        optimizer="fedavgm",
        sweep=dict(
            local_learning_rate=[0.3, 0.5, 0.7, 1.0], learning_rate=[1.0, 1.5, 2.0, 3.0], beta=[0.1, 0.3, 0.5]
        ),
    ),
    dict(
        label="Nesterov",
        optimizer="diloco",
        local_optimizer="sgd",
        sweep=dict(
            local_learning_rate=[0.3, 0.5, 0.7, 1.0], learning_rate=[0.7, 1.0, 1.5, 2.0], beta=[0.3, 0.5, 0.7]
        ),
    ),
    dict(
        label="DiLoCo",
        optimizer="diloco",
        local_optimizer="adamw",
        keep_local_state=True,
        sweep=dict(
            local_learning_rate=[0.003, 0.01, 0.03, 0.1],
            learning_rate=[0.1, 0.2, 0.3, 0.5],
            beta=[0.6, 0.8, 0.9],
        ),
    ),
    dict(label="FedAdam", optimizer="fedadam", sweep=_adaptive),
    dict(label="FedYogi", optimizer="fedyogi", sweep=_adaptive),
    dict(
        label="FedAdagrad",
        optimizer="fedadagrad",
        sweep=dict(_adaptive, learning_rate=[0.01, 0.02, 0.03, 0.05, 0.1, 0.15, 0.2, 0.3]),
    ),
    dict(
        label="SGD, data-parallel",
        optimizer="sgd",
        local_batch_size=_examples_a_client,
        sweep=dict(learning_rate=_geometric(0.05, 6.0)),
    ),
    dict(
        label="Adam, data-parallel",
        optimizer="adam",
        local_batch_size=_examples_a_client,
        sweep=dict(learning_rate=_geometric(0.0005, 0.2)),
    ),
    dict(
        label="LAgg-A",
        optimizer="fedlagg-adafac",
        test_checkpoint="checkpoints/fedlagg-adafac32_mlp32_digits_8_K8_H4_0.5_quickstart",
    ),
]
