# lagg-set: one learned aggregator for any K, H from 2 to 16, IID and not, two data sets, MLPs and a conv net.
#
# Source:  fedlagg-set (this package): a network that gates and corrects the mean delta. Trained through windows of
#          20 and 50 rounds by backpropagation, on ten kinds of inner problems whose meta-gradients weigh alike, those
#          that exploded left out, with clients' rates drawn from a range. On a base of heavy-ball momentum .6 it did
#          worse at high local rates without IID data, at 16 and more local steps and at the end of runs.
# Run:     python src/main.py --config config/meta_train/lagg_set.py
# Expect:  the mean meta-loss falls by a quarter; 26 minutes on one core of two (the other at work), some minutes of
#          them compilation. checkpoints/pretrained/lagg-set is a result of it.
run_type = "meta-train"
name = "lagg_set"
optimizer = "fedlagg-set"
base = "mean"
estimator = "truncated_backprop"
num_tasks = 2
truncation_length = 20
truncation_schedule_min_length = 20
num_inner_steps = 100
episode_growth_steps = 60
local_batch_size = 32
num_grads = 8
local_learning_rate_range = (0.1, 1.0)
meta_loss_split = "inner_valid"
problem_clip = 1e-3
problem_reject = 1e3
# Long windows where the end decides (100 rounds of 16 local steps on digits overfit), short ones elsewhere.
_digits = dict(
    task="mlp32_digits_8",
    truncation_length=50,
    truncation_schedule_min_length=100,
    episode_growth_steps=0,
    local_learning_rate_range=(0.35, 1.0),
)
_conv = dict(task="conv8x16_glyphs_8", local_batch_size=16, local_learning_rate_range=(0.2, 1.5))
problems = [
    dict(label="digits_h4", num_local_steps=4, **_digits),
    dict(label="digits_h8", num_local_steps=8, **_digits),
    dict(label="digits_h16", num_local_steps=16, **_digits),
    dict(
        label="digits_noniid", task="mlp32_digits_8", num_local_steps=4, partition="dirichlet", num_clients=64
    ),
    dict(label="digits_k32_h2", num_grads=32, num_local_steps=2, **_digits),
    dict(
        label="digits_noniid_k4",
        task="mlp32_digits_8",
        num_grads=4,
        num_local_steps=4,
        partition="dirichlet",
        num_clients=64,
        local_learning_rate_range=(0.3, 1.0),
    ),
    dict(label="glyphs_k4_h2", task="mlp32_glyphs_8", num_grads=4, num_local_steps=2),
    dict(label="conv_h4", num_local_steps=4, **_conv),
    dict(label="conv_h8", num_local_steps=8, **_conv),
    dict(label="conv_h16", num_local_steps=16, **_conv),
]
num_outer_steps = 250
schedule = dict(
    init_value=1e-4, peak_value=5e-3, end_value=1e-3, warmup_steps=20, decay_steps=250, exponent=1.0, clip=1.0
)
save_iter = 50
