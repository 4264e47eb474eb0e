# LAgg with the mean as an extra input (fedlagg-wavg), learned. A convolutional network (32, 64, 64 channels) on CIFAR-10.
# Source: Joseph et al., TMLR 2025, arXiv:2312.02204.
# Run:    python src/main.py --config config/meta_train/meta_train_fedlagg32_image-mlp-fmst_schedule_3e-3_10000_d3:1.py --optimizer fedlagg-wavg --task conv-c10
#         python src/main.py --config config/meta_test/fedlagg-wavg_conv-c10.py
# Expect: the first command meta-trains the checkpoint that the second tests for 1000 rounds of 10 seeds;
#         rounds.csv and report.html in runs/. Needs CIFAR-10 in TFDS's format: --tfds_data_dir, or --tfds_download.
_base_ = "../_base_/meta_test_conv-c10.py"
optimizer = "fedlagg-wavg"
test_checkpoint = "checkpoints/fedlagg-wavg32_conv-c10_K8_H4_0.5"
