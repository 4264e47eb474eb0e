# LAgg-A on scikit-learn's digits, in some minutes.
#
# Source:  the setting of Joseph et al., TMLR 2025, arXiv:2312.02204, on embedded data: an MLP 64-32-10 instead of
#          784-128-128-10, B 32, shorter episodes, the meta-gradient clipped, and the meta-loss measured on
#          held-out images after the aggregation.
# Run:     python src/main.py --config config/meta_train/digits_quickstart.py
# Expect:  the meta-loss falls from about 2.3 to below 0.3; a few minutes on two cores.
_base_ = "../_base_/meta_train_paper.py"

optimizer = "fedlagg-adafac"
task = "mlp32_digits_8"
name_suffix = "_quickstart"
local_batch_size = 32
meta_loss_split = "inner_valid"
truncation_schedule_min_length = 50
num_inner_steps = 200
num_outer_steps = 1000
schedule = dict(
    init_value=3e-10,
    peak_value=1e-2,
    end_value=1e-3,
    warmup_steps=50,
    decay_steps=1000,
    exponent=1.0,
    clip=1.0,
)
save_iter = 250
