# lagg-set-digits: lagg-set's rule, meta-trained for one task: digits with an MLP, K = 8, H from 4 to 16.
#
# Source:  fedlagg-set (this package), as config/meta_train/lagg_set.py; windows of half an episode, because where 100
#          rounds of 16 local steps overfit, the end decides. Gradients explode on longer windows: those are left out,
#          and the meta-learning rate is half. With neither, theta drifted into chaos for good.
# Run:     python src/main.py --config config/meta_train/lagg_set_digits.py
# Expect:  the IID problems' meta-losses fall to about 0.1; about 5 minutes on two quiet cores.
_base_ = "lagg_set.py"
name = "lagg_set_digits"
base = "momentum"
task = "mlp32_digits_8"
truncation_length = 50
truncation_schedule_min_length = 100
episode_growth_steps = 0
local_learning_rate_range = (0.35, 1.0)
problem_reject = 1e3
problems = [
    dict(label="digits_h4", num_local_steps=4),
    dict(label="digits_h8", num_local_steps=8),
    dict(label="digits_h16", num_local_steps=16),
    dict(
        label="digits_noniid",
        num_local_steps=4,
        partition="dirichlet",
        num_clients=64,
        local_learning_rate_range=(0.1, 0.5),
    ),
]
schedule = dict(
    init_value=1e-4, peak_value=5e-3, end_value=1e-3, warmup_steps=20, decay_steps=250, exponent=1.0, clip=1.0
)
