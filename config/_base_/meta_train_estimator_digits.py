# What the pair config/meta_train/estimator_{pes,nres}_digits.py has in common: a problem small enough that a run is
# about half a minute of two cores, so that several seeds can be compared.
_base_ = "meta_train_paper.py"

optimizer = "fedlagg-adafac"
task = "mlp16_digits_8"
base = "nesterov"
hidden_size = 16
num_grads = 4
local_batch_size = 16
num_tasks = 4
meta_loss_split = "inner_valid"
truncation_length = 10
truncation_schedule_min_length = 100
num_inner_steps = 100
num_outer_steps = 2000
schedule = dict(
    init_value=3e-10,
    peak_value=1e-2,
    end_value=1e-3,
    warmup_steps=30,
    decay_steps=2000,
    exponent=1.0,
    clip=1.0,
)
save_iter = 2000
