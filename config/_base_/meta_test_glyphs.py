# An MLP 784-128-128-10 on glyphs: 10 seeds of 200 rounds, K = 8, H = 4, B = 128. A base, not to be run by itself.
run_type = "benchmark"
task = "mlp128x128_glyphs_28"
num_grads = 8
num_local_steps = 4
local_batch_size = 128
local_learning_rate = 0.5
num_inner_steps = 200
num_runs = 10
