# DiLoCo: outer Nesterov over local AdamW. A convolutional network (32, 64, 64 channels) on CIFAR-10.
# Source: Douillard et al. 2023, arXiv:2311.08105.
# Run:    python src/main.py --config config/meta_test/diloco_conv-c10.py
# Expect: 1000 rounds of 10 seeds; rounds.csv and report.html in runs/. The rates are starting points, not
#         tuned: see config/sweeps. Needs CIFAR-10 in TFDS's format: --tfds_data_dir, or --tfds_download.
_base_ = "../_base_/meta_test_conv-c10.py"
optimizer = "diloco"
learning_rate = 0.7
beta = 0.9
local_optimizer = "adamw"
local_learning_rate = 0.003
