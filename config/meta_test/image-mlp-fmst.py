# An MLP 784-128-128-10 on Fashion-MNIST: any one rule, at rates to start from, not tuned (see config/sweeps).
# Source: Joseph et al., TMLR 2025, arXiv:2312.02204 (learned); the others' papers are in config/_base_/starting_rates.py.
# Run:    python src/main.py --config config/meta_test/image-mlp-fmst.py --optimizer adam
#         python src/main.py --config config/meta_train/meta_train_fedlagg-adafac32_image-mlp-fmst_schedule_3e-3_10000_d3:1.py --optimizer RULE
#         python src/main.py --config config/meta_test/image-mlp-fmst.py --optimizer RULE
# Expect: rounds.csv and report.html in runs/; 1000 rounds of 10 seeds, for an accelerator. Needs Fashion-MNIST in TFDS's
#         format: --tfds_data_dir, or --tfds_download. RULE is a learned one, whose meta-training is long.
_base_ = ["../_base_/problems/image-mlp-fmst.py", "../_base_/starting_rates.py"]
optimizer = "fedavg"
by_optimizer = {
    "fedlagg-adafac": dict(test_checkpoint="checkpoints/fedlagg-adafac32_image-mlp-fmst_K8_H4_0.5"),
    "fedlopt-adafac": dict(test_checkpoint="checkpoints/fedlopt-adafac32_image-mlp-fmst_K8_H4_0.5"),
    "fedlagg": dict(test_checkpoint="checkpoints/fedlagg32_image-mlp-fmst_K8_H4_0.5"),
    "fedlopt": dict(test_checkpoint="checkpoints/fedlopt32_image-mlp-fmst_K8_H4_0.5"),
    "fedlagg-wavg": dict(test_checkpoint="checkpoints/fedlagg-wavg32_image-mlp-fmst_K8_H4_0.5"),
}
