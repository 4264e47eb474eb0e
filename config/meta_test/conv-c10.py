# A convolutional network (32, 64, 64 channels) on CIFAR-10: any one rule, at rates to start from, not tuned (see config/sweeps).
# Source: Joseph et al., TMLR 2025, arXiv:2312.02204 (learned); the others' papers are in config/_base_/starting_rates.py.
# Run:    python src/main.py --config config/meta_test/conv-c10.py --optimizer adam
#         python src/main.py --config config/meta_train/meta_train_fedlagg-adafac32_image-mlp-fmst_schedule_3e-3_10000_d3:1.py --task conv-c10 --optimizer RULE
#         python src/main.py --config config/meta_test/conv-c10.py --optimizer RULE
# Expect: rounds.csv and report.html in runs/; 1000 rounds of 10 seeds, for an accelerator. Needs CIFAR-10 in TFDS's
#         format: --tfds_data_dir, or --tfds_download. RULE is a learned one, whose meta-training is long.
_base_ = ["../_base_/problems/conv-c10.py", "../_base_/starting_rates.py"]
optimizer = "fedavg"
by_optimizer = {
    "fedlagg-adafac": dict(test_checkpoint="checkpoints/fedlagg-adafac32_conv-c10_K8_H4_0.5"),
    "fedlopt-adafac": dict(test_checkpoint="checkpoints/fedlopt-adafac32_conv-c10_K8_H4_0.5"),
    "fedlagg": dict(test_checkpoint="checkpoints/fedlagg32_conv-c10_K8_H4_0.5"),
    "fedlopt": dict(test_checkpoint="checkpoints/fedlopt32_conv-c10_K8_H4_0.5"),
    "fedlagg-wavg": dict(test_checkpoint="checkpoints/fedlagg-wavg32_conv-c10_K8_H4_0.5"),
}
