# LAgg-A meta-trained on several tasks at once: a convolutional network and two MLPs on Fashion-MNIST.
# Source: Joseph et al., TMLR 2025, arXiv:2312.02204, and its published configurations; all else as in the base.
# Run:    python src/main.py --config config/meta_train/fedlagg-adafac_fmnist-conv-mlp-mix.py
#         (LOpt-A: --optimizer fedlopt-adafac)
# Expect: one loss a task in metrics.csv, all falling; 10,000 outer steps of 8 problems EACH: a long run, for an accelerator.
#         Needs the data sets in TFDS's format: --tfds_data_dir, or --tfds_download. Its embedded twin:
#         config/meta_train/glyphs_mix.py.
_base_ = "meta_train_fedlagg-adafac32_image-mlp-fmst_schedule_3e-3_10000_d3:1.py"
task = "fmnist-conv-mlp-mix"
