# The meta-training setting of Joseph et al., TMLR 2025, arXiv:2312.02204:
# T = 8 problems, windows of L = 50 rounds, episodes of 100 to 1000 rounds, PES with sigma = 0.01,
# K = 8 clients, H = 4 local steps of B = 128 examples at rate 0.5. A base, not to be run by itself.
run_type = "meta-train"
hidden_size = 32
num_grads = 8
num_local_steps = 4
local_batch_size = 128
local_learning_rate = 0.5
num_tasks = 8
truncation_length = 50
truncation_schedule_min_length = 100
num_inner_steps = 1000
estimator = "pes"
perturbation_std = 0.01
save_iter = 1000
