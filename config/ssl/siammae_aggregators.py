# Who averages siamese masked autoencoders: FedAvg, Nesterov (DiLoCo) and lagg-set, tuned by the loss on outer_valid.
# Source: docs/siammae.md; benchmarks/siammae_federated.py has its figures and J&F: `make claims CLAIM=siammae`.
# Run:    python src/main.py --config config/ssl/siammae_aggregators.py
# Expect: table.csv and report.html in runs/; an hour on two cores.
_base_ = "../_base_/siammae.py"
run_type = "compare"
_rates = [1e-3, 2e-3, 4e-3]
entrants = [
    dict(label="FedAvg", optimizer="fedavg", sweep=dict(local_learning_rate=_rates)),
    dict(
        label="Nesterov",
        optimizer="diloco",
        sweep=dict(local_learning_rate=_rates, learning_rate=[0.7, 1.0], beta=[0.6, 0.9]),
    ),
    dict(
        label="lagg-set",
        optimizer="fedlagg-set",
        test_checkpoint="lagg-set",
        sweep=dict(local_learning_rate=_rates),
    ),
]
