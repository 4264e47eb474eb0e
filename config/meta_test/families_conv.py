# 20 rounds of a convolutional network, with FedAvg and with lagg-set, which has seen small models only.
# Source: the meta-generalisation tests of Joseph et al., TMLR 2025, arXiv:2312.02204, on embedded data.
# Run:    python src/main.py --config config/meta_test/families_conv.py
#         (all families, seconds per round and memory: make bench BENCH=families)
# Expect: the loss goes down with both; a minute or two on two cores.
_base_ = "../_base_/families.py"
task = "conv32x64x64_digits_16"
local_learning_rate = 0.6
num_local_steps = 8
local_batch_size = 32
