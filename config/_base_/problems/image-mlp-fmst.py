# An MLP 784-128-128-10 on Fashion-MNIST: 10 seeds of 1000 rounds, K = 8, H = 4, B = 128.
# A base, not to be run by itself: config/meta_test/image-mlp-fmst.py runs it. local_learning_rate is left at its default, 0.5,
# for what a file sets goes over a row of config/_base_/starting_rates.py.
run_type = "benchmark"
task = "image-mlp-fmst"
num_grads = 8
num_local_steps = 4
local_batch_size = 128
num_inner_steps = 1000
num_runs = 10
