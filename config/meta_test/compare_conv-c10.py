# LAgg-A and LOpt-A against tuned baselines: a convolutional network on CIFAR-10.
# Source: Joseph et al., TMLR 2025, arXiv:2312.02204
# Run:    python src/main.py --config config/meta_train/meta_train_fedlagg-adafac32_image-mlp-fmst_schedule_3e-3_10000_d3:1.py --task conv-c10
#         python src/main.py --config config/meta_train/meta_train_fedlopt-adafac32_image-mlp-fmst_schedule_3e-3_10000_d3:1.py --task conv-c10
#         python src/main.py --config config/meta_test/compare_conv-c10.py
# Expect: table.csv and report.html in runs/. For an accelerator. Needs CIFAR-10 in TFDS's format.
_base_ = "../_base_/compare_published.py"
task = "conv-c10"
entrants = _base_._baselines + [
    dict(
        label="LAgg-A",
        optimizer="fedlagg-adafac",
        test_checkpoint="checkpoints/fedlagg-adafac32_conv-c10_K8_H4_0.5",
    ),
    dict(
        label="LOpt-A",
        optimizer="fedlopt-adafac",
        test_checkpoint="checkpoints/fedlopt-adafac32_conv-c10_K8_H4_0.5",
    ),
]
