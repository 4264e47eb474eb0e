# Baselines tuned as in Joseph et al., TMLR 2025, arXiv:2312.02204 (SlowMo over a wider range of slow rates): 10 seeds of
# 1000 rounds, K = 8, H = 4, B = 128. A base, not to be run by itself: add learned entrants to _baselines.
run_type = "compare"
num_grads = 8
num_local_steps = 4
local_batch_size = 128
local_learning_rate = 0.5
num_inner_steps = 1000
num_runs = 10
_baselines = [
    dict(label="FedAvg", optimizer="fedavg", sweep=dict(local_learning_rate=[0.1, 0.3, 0.5, 1.0])),
    dict(
        label="SlowMo",
        optimizer="fedavg-slowmo",
        sweep=dict(
            local_learning_rate=[0.1, 0.3, 0.5, 1.0],
            slowmo_learning_rate=[0.1, 0.5, 1.0, 2.0],
            beta=[0.5, 0.7, 0.9],
        ),
    ),
    dict(
        label="Adam, data-parallel",
        optimizer="adam",
        local_batch_size=512,  # H x B of the others, in one step
        sweep=dict(learning_rate=[0.1, 0.05, 0.01, 0.005, 0.001, 0.0005, 0.0001, 0.00005, 0.00001]),
    ),
]
