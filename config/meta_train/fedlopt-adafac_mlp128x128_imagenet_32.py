# LOpt-A meta-trained on an MLP 3072-128-128-1000 on ImageNet at 32 pixels.
# Source: Joseph et al., TMLR 2025, arXiv:2312.02204; all else as in the base.
# Run:    python src/main.py --config config/meta_train/fedlopt-adafac_mlp128x128_imagenet_32.py
# Expect: the meta-loss falls from about ln C, C classes; 10,000 outer steps: a long run, for an accelerator.
#         Needs imagenet_resized/32x32 in TFDS's format: --tfds_data_dir, or --tfds_download. Its embedded twin:
#         config/meta_train/glyphs62_mlp.py.
_base_ = "meta_train_fedlopt-adafac32_image-mlp-fmst_schedule_3e-3_10000_d3:1.py"
task = "mlp128x128_imagenet_32"
