# 20 rounds of one seed: FedAvg, and the pretrained lagg-set. Few clients and examples, so that large models run on a
# CPU. A base, not to be run by itself.
run_type = "compare"
num_grads = 4
num_local_steps = 2
local_batch_size = 16
num_inner_steps = 20
num_runs = 1
eval_every = 10
eval_chunk = 250
eval_examples = 500
entrants = [
    dict(label="FedAvg", optimizer="fedavg"),
    dict(label="lagg-set", optimizer="fedlagg-set", test_checkpoint="lagg-set"),
]
