# Adam's rate: a grid of 11 points.
# Source: the grid of Joseph et al., TMLR 2025, arXiv:2312.02204.
# Run:    python src/main.py --config config/sweeps/sweep_adam.py
#         or on another task: --config config/meta_test/PROBLEM.py --optimizer adam --run_type sweep --sweep_config config/sweeps/sweep_adam.py
# Expect: sweep.csv, best.py (the winner on outer_valid) and report.html in runs/; stopped, it resumes.
#         Needs Fashion-MNIST in TFDS's format; 1,000 rounds of 10 seeds a point: --num_runs 3 is quicker.
_base_ = "../meta_test/image-mlp-fmst.py"
optimizer = "adam"
run_type = "sweep"
sweep_config = dict(
    method="grid",
    metric=dict(name="outer_valid_loss", goal="minimize"),
    parameters=dict(
        learning_rate=dict(
            values=[1.0, 0.5, 0.1, 0.05, 0.01, 0.005, 0.001, 0.0005, 0.0001, 0.00005, 0.00001]
        ),
    ),
)
