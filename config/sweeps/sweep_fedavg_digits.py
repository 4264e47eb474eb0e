# FedAvg's local rate: a grid of 9 points.
# Source: a grid for small tasks; widen it if the winner is on its edge.
# Run:    python src/main.py --config config/sweeps/sweep_fedavg_digits.py
#         or on another task: --config config/meta_test/PROBLEM.py --optimizer fedavg --run_type sweep --sweep_config config/sweeps/sweep_fedavg_digits.py
# Expect: sweep.csv, best.py (the winner on outer_valid) and report.html in runs/; stopped, it resumes.
#         Needs nothing; minutes on 2 cores.
_base_ = "../meta_test/digits.py"
optimizer = "fedavg"
run_type = "sweep"
num_runs = 3
sweep_config = dict(
    method="grid",
    metric=dict(name="outer_valid_loss", goal="minimize"),
    parameters=dict(
        local_learning_rate=dict(values=[0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.4, 2.0]),
    ),
)
