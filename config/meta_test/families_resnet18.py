# 20 rounds of ResNet-18 with BatchNorm, with FedAvg and with lagg-set, which has seen small models only.
# Source: the meta-generalisation tests of Joseph et al., TMLR 2025, arXiv:2312.02204, on embedded data.
# Run:    python src/main.py --config config/meta_test/families_resnet18.py
#         (all families, seconds per round and memory: make bench BENCH=families)
# Expect: the loss goes down with both; a minute or two on two cores.
_base_ = "../_base_/families.py"
task = "resnet18_digits_32"
local_learning_rate = 0.03
num_grads = 2
local_batch_size = 8
entrants = [
    dict(label="FedAvg", optimizer="fedavg"),
    dict(label="lagg-set", optimizer="fedlagg-set", test_checkpoint="lagg-set", local_learning_rate=0.003),
]
