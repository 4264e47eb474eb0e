# Who averages clients without labels: FedAvg, Nesterov and lagg-set (with its network off it is FedAvg). One glyph font
# per client (`partition = "natural"`); `--partition shards` is two classes per client.
# Source: a row of `make claims CLAIM=mim`.
# Run:    python src/main.py --config config/ssl/compare_aggregators.py
#         ... --partition shared     (IID)
# Expect: table.csv with rounds to FedAvg's last masked loss and the probes after equal rounds; an hour on two cores.
_base_ = "../_base_/mim.py"
name = "mim_aggregators"
run_type = "compare"
partition = "natural"
tuning_seeds = 1
curves_dir = "runs/mim/curves"
_rates = (0.001, 0.002, 0.004)
entrants = [
    dict(label="FedAvg", optimizer="fedavg", sweep=dict(local_learning_rate=list(_rates))),
    dict(
        label="Nesterov",
        optimizer="diloco",
        beta=0.6,
        sweep=dict(local_learning_rate=list(_rates), learning_rate=[0.7, 1.0]),
    ),
    dict(
        label="lagg-set",
        optimizer="fedlagg-set",
        test_checkpoint="lagg-set",
        sweep=dict(local_learning_rate=list(_rates)),
    ),
]
