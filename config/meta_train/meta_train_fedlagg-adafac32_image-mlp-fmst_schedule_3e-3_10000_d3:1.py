# LAgg-A (fedlagg-adafac), meta-trained on an MLP 784-128-128-10 on Fashion-MNIST.
# Source: Joseph et al., TMLR 2025, arXiv:2312.02204; the setting is in ../_base_.
# Run:    python src/main.py --config config/meta_train/meta_train_fedlagg-adafac32_image-mlp-fmst_schedule_3e-3_10000_d3:1.py --num_local_steps 4 --num_grads 8 --optimizer fedlagg-adafac --local_learning_rate 0.5
#         The paper's other settings: --num_local_steps 8 and 16, --num_grads 16 and 32. Its other tasks: --task conv-c10,
#         mlp128x128_imagenet_32, and several at once, of 8 problems EACH, by a mix: fmnist-mlp-mix, fmnist-conv-mlp-mix,
#         dataset-mlp-mix, cifar-fmnist-128x128, cifar-fmnist-all. Embedded twins: glyphs_conv.py, glyphs_mlp.py, glyphs_mix.py.
# Needs:  the data set in TFDS's format (--tfds_data_dir, or --tfds_download); --task mlp128x128_glyphs_28 needs nothing.
# Expect: the meta-loss starts near ln 10 = 2.30 (ln C of C classes) and falls; 10,000 outer steps of 2 x 8 x 50 rounds each:
#         a long run, for an accelerator. Checkpoints every 1,000 steps; resume with --from_checkpoint.
_base_ = ["../_base_/meta_train_paper.py", "../_base_/schedule_3e-3_10000.py"]
optimizer = "fedlagg-adafac"
task = "image-mlp-fmst"
