# An MLP 64-32-10 on scikit-learn's digits: 10 seeds of 100 rounds, K = 8, H = 4, B = 32.
# A base, not to be run by itself: config/meta_test/digits.py runs it. local_learning_rate is left at its default, 0.5,
# for what a file sets goes over a row of config/_base_/starting_rates.py.
run_type = "benchmark"
task = "mlp32_digits_8"
num_grads = 8
num_local_steps = 4
local_batch_size = 32
num_inner_steps = 100
num_runs = 10
