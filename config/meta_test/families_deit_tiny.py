# 20 rounds of DeiT-tiny at 64 pixels, with FedAvg and with lagg-set, which has seen small models only.
# Source: the meta-generalisation tests of Joseph et al., TMLR 2025, arXiv:2312.02204, on embedded data.
# Run:    python src/main.py --config config/meta_test/families_deit_tiny.py
#         (all families, seconds per round and memory: make bench BENCH=families)
# Expect: the loss goes down with both; a minute or two on two cores.
_base_ = "../_base_/families.py"
task = "deit_tiny_digits_64"
local_learning_rate = 0.03
num_grads = 2
local_batch_size = 8
