# 20 rounds of one seed: FedAvg, and a learned aggregator meta-trained by config/meta_train/families.py on a small MLP on
# digits. Few clients and examples, so that large models run on a CPU. A base, not to be run by itself.
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
    dict(
        label="LOpt-A over momentum",
        optimizer="fedlopt-adafac",
        base="momentum",
        test_checkpoint="checkpoints/fedlopt-adafac32_mlp32_digits_8_K8_H4_0.5_families",
    ),
]
