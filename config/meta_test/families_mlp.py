# 20 rounds of a wide MLP, with FedAvg and with lagg-set, which has seen small models only.
# Source: the meta-generalisation tests of Joseph et al., TMLR 2025, arXiv:2312.02204, on embedded data.
# Run:    python src/main.py --config config/meta_test/families_mlp.py
#         (all families, seconds per round and memory: make bench BENCH=families)
# Expect: the loss goes down with both; a minute or two on two cores.
_base_ = "../_base_/families.py"
task = "mlp512x512x512_digits_32"
local_learning_rate = 0.1
