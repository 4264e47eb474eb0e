# LOpt-A meta-trained on a convolutional network on CIFAR-10.
# Source: Joseph et al., TMLR 2025, arXiv:2312.02204; all else as in the base.
# Run:    python src/main.py --config config/meta_train/fedlopt-adafac_conv-c10.py
# Expect: the meta-loss falls from about ln C, C classes; 10,000 outer steps: a long run, for an accelerator.
#         Needs CIFAR-10 in TFDS's format: --tfds_data_dir, or --tfds_download. Its embedded twin:
#         config/meta_train/glyphs_conv.py.
_base_ = "meta_train_fedlopt-adafac32_image-mlp-fmst_schedule_3e-3_10000_d3:1.py"
task = "conv-c10"
