# SlowMo's local and slow rates over 500 rounds: a grid of 44 points.
# Source: the grid of Joseph et al., TMLR 2025, arXiv:2312.02204, on digits.
# Run:    python src/main.py --config config/sweeps/sweep_slowmo_digits_44.py
#         or on another task: --config config/meta_test/PROBLEM.py --optimizer fedavg-slowmo --run_type sweep --sweep_config config/sweeps/sweep_slowmo_digits_44.py
# Expect: sweep.csv, best.py (the winner on outer_valid) and report.html in runs/; stopped, it resumes.
#         Needs nothing; the 44 points are one compiled program: minutes on 2 cores.
_base_ = "../meta_test/digits.py"
optimizer = "fedavg-slowmo"
run_type = "sweep"
num_inner_steps = 500
num_runs = 1
sweep_config = dict(
    method="grid",
    metric=dict(name="outer_valid_loss", goal="minimize"),
    parameters=dict(
        local_learning_rate=dict(values=[1.0, 0.5, 0.3, 0.1]),
        slowmo_learning_rate=dict(
            values=[1.0, 0.5, 0.1, 0.05, 0.01, 0.005, 0.001, 0.0005, 0.0001, 0.00005, 0.00001]
        ),
    ),
)
