# Adam, data-parallel: one step a round, K x B examples. A convolutional network (32, 64, 64 channels) on CIFAR-10.
# Source: Kingma and Ba 2015, arXiv:1412.6980.
# Run:    python src/main.py --config config/meta_test/adam_conv-c10.py
# Expect: 1000 rounds of 10 seeds; rounds.csv and report.html in runs/. The rates are starting points, not
#         tuned: see config/sweeps. Needs CIFAR-10 in TFDS's format: --tfds_data_dir, or --tfds_download.
_base_ = "../_base_/meta_test_conv-c10.py"
optimizer = "adam"
learning_rate = 0.01
