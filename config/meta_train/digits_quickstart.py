# LAgg-A on scikit-learn's digits (1,797 real images, embedded), an MLP 64-32-10.
# Source: the setting of arXiv:2312.02204 with smaller batches, shorter episodes and fewer outer steps.
# Run:    python src/main.py --config config/meta_train/digits_quickstart.py
# Expect: the meta-loss starts near ln 10 = 2.30 and falls well below 1; minutes on 2 cores.
_base_ = "../_base_/meta_train_paper.py"
optimizer = "fedlagg-adafac"
task = "mlp32_digits_8"
local_batch_size = 32
truncation_schedule_min_length = 50
num_inner_steps = 100
num_outer_steps = 300
schedule = dict(
    init_value=3e-10,
    peak_value=1e-2,
    end_value=1e-3,
    warmup_steps=20,
    decay_steps=300,  # the warm-up included
    clip=1.0,
)
save_iter = 100
