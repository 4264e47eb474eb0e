# lagg-set on scikit-learn's digits with an uneven division of the classes: what `make quickstart` meta-trains.
#
# Source:  fedlagg-set on a bank of classical steps (src/learned_aggregation/aggregators/learned/bank.py), through
#          windows of 25 rounds by backpropagation; 64 clients of which 8 take part, Dirichlet 0.1 (Hsu et al.,
#          arXiv:1909.06335); the clients' rate is drawn anew for each episode.
# Run:     python src/main.py --config config/meta_train/quickstart.py
# Expect:  the meta-loss falls to about .25; two minutes on two cores. config/meta_test/quickstart.py tests the result.
run_type = "meta-train"
name = "quickstart"
optimizer = "fedlagg-set"
base = "bank"
estimator = "truncated_backprop"
task = "mlp32_digits_8"
partition = "dirichlet"
num_clients = 64
num_grads = 8
num_local_steps = 4
local_batch_size = 32
local_learning_rate_range = (0.1, 0.7)
meta_loss_split = "inner_valid"
num_tasks = 4
truncation_length = 25
truncation_schedule_min_length = 50
num_inner_steps = 100
num_outer_steps = 120
schedule = dict(
    init_value=1e-4, peak_value=5e-3, end_value=5e-4, warmup_steps=10, decay_steps=120, exponent=1.0, clip=1.0
)
save_iter = 40
