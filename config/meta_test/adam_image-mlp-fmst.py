# Adam, data-parallel: one step a round, K x B examples. An MLP 784-128-128-10 on Fashion-MNIST.
# Source: Kingma and Ba 2015, arXiv:1412.6980.
# Run:    python src/main.py --config config/meta_test/adam_image-mlp-fmst.py
# Expect: 1000 rounds of 10 seeds; rounds.csv and report.html in runs/. The rates are starting points, not
#         tuned: see config/sweeps. Needs Fashion-MNIST in TFDS's format: --tfds_data_dir, or --tfds_download.
_base_ = "../_base_/meta_test_image-mlp-fmst.py"
optimizer = "adam"
learning_rate = 0.01
