# FedAdagrad. A convolutional network (32, 64, 64 channels) on CIFAR-10.
# Source: Reddi et al. 2021, arXiv:2003.00295, Algorithm 2.
# Run:    python src/main.py --config config/meta_test/fedadagrad_conv-c10.py
# Expect: 1000 rounds of 10 seeds; rounds.csv and report.html in runs/. The rates are starting points, not
#         tuned: see config/sweeps. Needs CIFAR-10 in TFDS's format: --tfds_data_dir, or --tfds_download.
_base_ = "../_base_/meta_test_conv-c10.py"
optimizer = "fedadagrad"
learning_rate = 0.1
