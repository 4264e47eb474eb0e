# Meta-generalisation: LAgg-A and LOpt-A, meta-trained on an MLP 128x128 on ImageNet at 32 pixels, on tasks that they have
# not seen, against tuned baselines.
# Source: Joseph et al., TMLR 2025, arXiv:2312.02204
# Run:    python src/main.py --config config/meta_train/meta_train_fedlagg-adafac32_image-mlp-fmst_schedule_3e-3_10000_d3:1.py --task mlp128x128_imagenet_32
#         python src/main.py --config config/meta_train/meta_train_fedlopt-adafac32_image-mlp-fmst_schedule_3e-3_10000_d3:1.py --task mlp128x128_imagenet_32
#         python src/main.py --config config/meta_test/generalise.py --task TASK, with one of these (embedded twins in families_*.py):
#   --task mlp128x128_imagenet_64                    larger images (64 pixels); twin: mlp
#   --task mlp512x512x512_imagenet_32                a wider and deeper MLP; twin: mlp
#   --task mlp128_pow6_imagenet_32                   a deeper MLP, 6 hidden layers; twin: mlp
#   --task mlp128_pow12_imagenet_32                  a much deeper MLP, 12 hidden layers; twin: mlp
#   --task conv_imagenet_32                          a convolutional network; twin: conv
#   --task vit_p16_h128_m512_nh4_nl10_imagenet_32    a vision transformer; twin: vit
#   --task transformer32_lm                          a small language model on lm1b; twin: transformer
#   --task resnet50_imagenet_64 --remat --tasks_per_chunk 1 --eval_chunk 250    ResNet-50 with BatchNorm, 25,557,032 parameters; twin: resnet18
#   --task deit_small_imagenet_64 --remat --tasks_per_chunk 1 --eval_chunk 250  DeiT-small, 21,981,544 parameters; twin: deit_tiny
#   --task transformer192_lm --remat --tasks_per_chunk 1 --eval_chunk 250       a language model on lm1b, 12 layers; twin: transformer
# Expect: table.csv and report.html in runs/; for an accelerator. Needs imagenet_resized/32x32 or 64x64 in TFDS's format, or
#         lm1b (and seqio; see docs/tasks.md): --tfds_data_dir.
_base_ = "../_base_/compare_published.py"
task = "mlp128x128_imagenet_64"
entrants = _base_._baselines + [
    dict(
        label="LAgg-A",
        optimizer="fedlagg-adafac",
        test_checkpoint="checkpoints/fedlagg-adafac32_mlp128x128_imagenet_32_K8_H4_0.5",
    ),
    dict(
        label="LOpt-A",
        optimizer="fedlopt-adafac",
        test_checkpoint="checkpoints/fedlopt-adafac32_mlp128x128_imagenet_32_K8_H4_0.5",
    ),
]
