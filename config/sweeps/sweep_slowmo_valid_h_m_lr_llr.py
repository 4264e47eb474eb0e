# SlowMo's local steps, momentum, slow and local rates: a grid of 1320 points.
# Source: the grid of Joseph et al., TMLR 2025, arXiv:2312.02204.
# Run:    python src/main.py --config config/sweeps/sweep_slowmo_valid_h_m_lr_llr.py
#         or on another task: --config config/meta_test/PROBLEM.py --optimizer fedavg-slowmo --run_type sweep --sweep_config config/sweeps/sweep_slowmo_valid_h_m_lr_llr.py
# Expect: sweep.csv, best.py (the winner on outer_valid) and report.html in runs/; stopped, it resumes.
#         Needs Fashion-MNIST in TFDS's format; 1,000 rounds of 10 seeds a point: --num_runs 3 is quicker.
_base_ = "../meta_test/image-mlp-fmst.py"
optimizer = "fedavg-slowmo"
run_type = "sweep"
sweep_config = dict(
    method="grid",
    metric=dict(name="outer_valid_loss", goal="minimize"),
    parameters=dict(
        num_local_steps=dict(values=[4, 8, 16]),
        beta=dict(values=[0.99, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55]),
        slowmo_learning_rate=dict(
            values=[1.0, 0.5, 0.1, 0.05, 0.01, 0.005, 0.001, 0.0005, 0.0001, 0.00005, 0.00001]
        ),
        local_learning_rate=dict(values=[1.0, 0.5, 0.3, 0.1]),
    ),
)
