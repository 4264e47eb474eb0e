# LAgg-A and LOpt-A against tuned baselines on Fashion-MNIST, K = 8, H = 16.
# Source: Joseph et al., TMLR 2025, arXiv:2312.02204
# Run:    python src/main.py --config config/meta_train/fedlagg-adafac_image-mlp-fmst_H16.py
#         python src/main.py --config config/meta_train/fedlopt-adafac_image-mlp-fmst_H16.py
#         python src/main.py --config config/meta_test/compare_image-mlp-fmst_H16.py
# Expect: the first two commands meta-train what the third tests; table.csv and report.html in runs/. Published: LAgg-A
#         reaches a given loss in fewer rounds than tuned SlowMo. For an accelerator. Needs Fashion-MNIST in TFDS's format.
_base_ = "../_base_/compare_published.py"
task = "image-mlp-fmst"
num_local_steps = 16
_adam = dict(_base_._baselines[2], local_batch_size=2048)  # H x B of the others, in one step
entrants = _base_._baselines[:2] + [
    _adam,
    dict(
        label="LAgg-A",
        optimizer="fedlagg-adafac",
        test_checkpoint="checkpoints/fedlagg-adafac32_image-mlp-fmst_K8_H16_0.5",
    ),
    dict(
        label="LOpt-A",
        optimizer="fedlopt-adafac",
        test_checkpoint="checkpoints/fedlopt-adafac32_image-mlp-fmst_K8_H16_0.5",
    ),
]
