# LAgg-A and LOpt-A against tuned baselines on Fashion-MNIST, K = 16, H = 4.
# Source: Joseph et al., TMLR 2025, arXiv:2312.02204
# Run:    python src/main.py --config config/meta_train/fedlagg-adafac_image-mlp-fmst_K16.py
#         python src/main.py --config config/meta_train/fedlopt-adafac_image-mlp-fmst_K16.py
#         python src/main.py --config config/meta_test/compare_image-mlp-fmst_K16.py
# Expect: the first two commands meta-train what the third tests; table.csv and report.html in runs/. Published: LAgg-A
#         reaches a given loss in fewer rounds than tuned SlowMo. For an accelerator. Needs Fashion-MNIST in TFDS's format.
_base_ = "../_base_/compare_published.py"
task = "image-mlp-fmst"
num_grads = 16
entrants = _base_._baselines + [
    dict(
        label="LAgg-A",
        optimizer="fedlagg-adafac",
        test_checkpoint="checkpoints/fedlagg-adafac32_image-mlp-fmst_K16_H4_0.5",
    ),
    dict(
        label="LOpt-A",
        optimizer="fedlopt-adafac",
        test_checkpoint="checkpoints/fedlopt-adafac32_image-mlp-fmst_K16_H4_0.5",
    ),
]
