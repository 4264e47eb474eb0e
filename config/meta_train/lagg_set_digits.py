# lagg-set-digits: lagg-set's rule, meta-trained for one task: digits with an MLP, K = 8, H from 4 to 16.
#
# Source:  fedlagg-set (this package), as config/meta_train/lagg_set.py; windows of half an episode, because where 100
#          rounds of 16 local steps overfit, the end decides.
# Run:     python src/main.py --config config/meta_train/lagg_set_digits.py
# Expect:  the mean meta-loss falls from 0.2 to 0.13; about 6 minutes on two quiet cores.
_base_ = "lagg_set.py"
name = "lagg_set_digits"
task = "mlp32_digits_8"
truncation_length = 50
truncation_schedule_min_length = 100
episode_growth_steps = 0
local_learning_rate_range = (0.35, 1.0)
problems = [
    dict(label="digits_h4", num_local_steps=4),
    dict(label="digits_h8", num_local_steps=8),
    dict(label="digits_h16", num_local_steps=16),
]
num_outer_steps = 300
schedule = dict(
    init_value=1e-4, peak_value=1e-2, end_value=1e-3, warmup_steps=20, decay_steps=300, exponent=1.0, clip=1.0
)
