# SlowMo. A convolutional network (32, 64, 64 channels) on CIFAR-10.
# Source: Wang et al. 2020, arXiv:1910.00643.
# Run:    python src/main.py --config config/meta_test/fedavg-slowmo_conv-c10.py
# Expect: 1000 rounds of 10 seeds; rounds.csv and report.html in runs/. The rates are starting points, not
#         tuned: see config/sweeps. Needs CIFAR-10 in TFDS's format: --tfds_data_dir, or --tfds_download.
_base_ = "../_base_/meta_test_conv-c10.py"
optimizer = "fedavg-slowmo"
slowmo_learning_rate = 0.5
beta = 0.7
