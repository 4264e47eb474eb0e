# LAgg-A meta-trained with H = 8 local steps on an MLP 784-128-128-10 on Fashion-MNIST.
# Source: Joseph et al., TMLR 2025, arXiv:2312.02204; all else as in the base.
# Run:    python src/main.py --config config/meta_train/fedlagg-adafac_image-mlp-fmst_H8.py
# Expect: the meta-loss falls from about ln 10 = 2.30; 10,000 outer steps of 2 x 8 x 50 rounds: a long run, for an accelerator.
#         Needs Fashion-MNIST in TFDS's format: --tfds_data_dir, or --tfds_download;
#         --task mlp128x128_glyphs_28 needs nothing.
_base_ = "meta_train_fedlagg-adafac32_image-mlp-fmst_schedule_3e-3_10000_d3:1.py"
num_local_steps = 8
