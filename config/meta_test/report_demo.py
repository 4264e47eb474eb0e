# A small comparison of classical rules with its report: `make report-demo`.
# Source: the rules' papers; see their docstrings in src/learned_aggregation/aggregators.
# Run:    python src/main.py --config config/meta_test/report_demo.py
# Expect: table.csv and report.html in runs/report-demo; about a minute on two cores. The clients hold skewed classes
#         (Dirichlet 0.3 over 40 clients, 8 a round), so that the report has a partition to show.
_base_ = "../_base_/problems/digits.py"

run_type = "compare"
name = "report-demo"
partition = "dirichlet"
partition_alpha = 0.3
num_clients = 40
eval_every = 2
entrants = [
    dict(
        label="FedAvg",
        optimizer="fedavg",
        sweep=dict(local_learning_rate=[0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2]),
    ),
    dict(
        label="SlowMo",
        optimizer="fedavg-slowmo",
        sweep=dict(local_learning_rate=[0.05, 0.1, 0.2], slowmo_learning_rate=[0.1, 0.2, 0.4], beta=[0.5]),
    ),
    dict(
        label="FedAdam",
        optimizer="fedadam",
        sweep=dict(local_learning_rate=[0.1, 0.2, 0.4], learning_rate=[0.01, 0.03, 0.1]),
    ),
]
