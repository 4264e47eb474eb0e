# LOpt-A (fedlopt-adafac), learned. An MLP 784-128-128-10 on Fashion-MNIST.
# Source: Joseph et al., TMLR 2025, arXiv:2312.02204.
# Run:    python src/main.py --config config/meta_train/meta_train_fedlopt-adafac32_image-mlp-fmst_schedule_3e-3_10000_d3:1.py
#         python src/main.py --config config/meta_test/fedlopt-adafac_image-mlp-fmst.py
# Expect: the first command meta-trains the checkpoint that the second tests for 1000 rounds of 10 seeds;
#         rounds.csv and report.html in runs/. Needs Fashion-MNIST in TFDS's format: --tfds_data_dir, or --tfds_download.
_base_ = "../_base_/meta_test_image-mlp-fmst.py"
optimizer = "fedlopt-adafac"
test_checkpoint = "checkpoints/fedlopt-adafac32_image-mlp-fmst_K8_H4_0.5"
