# lagg-a-k8-h4: LAgg-A in the paper's form (no base), K = 8 clients of H = 4 local steps, on digits.
#
# Source:  fedlagg-adafac of Joseph et al., TMLR 2025, arXiv:2312.02204; meta-trained here by backpropagation through
#          windows of 20 rounds instead of PES, on held-out images after the aggregation, over local rates from .3 to 1.
# Run:     python src/main.py --config config/meta_train/lagg_a_k8_h4.py
# Expect:  the meta-loss falls from 2.4 to below 0.25; a few minutes on two quiet cores.
_base_ = "../_base_/meta_train_paper.py"

name = "lagg_a_k8_h4"
optimizer = "fedlagg-adafac"
task = "mlp32_digits_8"
estimator = "truncated_backprop"
local_batch_size = 32
local_learning_rate_range = (0.3, 1.0)
meta_loss_split = "inner_valid"
truncation_length = 20
truncation_schedule_min_length = 20
num_inner_steps = 100
episode_growth_steps = 100
num_outer_steps = 400
schedule = dict(
    init_value=1e-4, peak_value=1e-2, end_value=1e-3, warmup_steps=20, decay_steps=400, exponent=1.0, clip=0.1
)
save_iter = 100
