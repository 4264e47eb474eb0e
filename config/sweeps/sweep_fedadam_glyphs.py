# FedAdam's server and local rates: a grid of 20 points.
# Source: a grid for small tasks; widen it if the winner is on its edge.
# Run:    python src/main.py --config config/sweeps/sweep_fedadam_glyphs.py
#         or on another task: --config config/meta_test/PROBLEM.py --optimizer fedadam --run_type sweep --sweep_config config/sweeps/sweep_fedadam_glyphs.py
# Expect: sweep.csv, best.py (the winner on outer_valid) and report.html in runs/; stopped, it resumes.
#         Needs nothing; a few minutes on 2 cores.
_base_ = "../meta_test/glyphs.py"
optimizer = "fedadam"
run_type = "sweep"
num_runs = 3
sweep_config = dict(
    method="grid",
    metric=dict(name="outer_valid_loss", goal="minimize"),
    parameters=dict(
        local_learning_rate=dict(values=[0.1, 0.3, 0.5, 1.0]),
        learning_rate=dict(values=[0.003, 0.01, 0.03, 0.1, 0.3]),
    ),
)
