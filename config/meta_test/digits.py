# An MLP 64-32-10 on scikit-learn's digits: any one rule, at rates to start from, not tuned (see config/sweeps).
# Source: Joseph et al., TMLR 2025, arXiv:2312.02204 (learned); the others' papers are in config/_base_/starting_rates.py.
# Run:    python src/main.py --config config/meta_test/digits.py --optimizer adam
#         python src/main.py --config config/meta_train/digits_quickstart.py --optimizer RULE
#         python src/main.py --config config/meta_test/digits.py --optimizer RULE
# Expect: rounds.csv and report.html in runs/; 100 rounds of 10 seeds, about 10 seconds on 2 cores. Test loss at the end near
#         .058 fedadagrad, .062 fedavgm and fedavg-slowmo, .068 fedavg, fedyogi and diloco, .069 fedadam, .111 adam,
#         .163 sgd. RULE is a learned one, whose meta-training takes minutes.
_base_ = ["../_base_/problems/digits.py", "../_base_/starting_rates.py"]
optimizer = "fedavg"
by_optimizer = {
    "fedlagg-adafac": dict(
        test_checkpoint="checkpoints/fedlagg-adafac32_mlp32_digits_8_K8_H4_0.5_quickstart"
    ),
    "fedlopt-adafac": dict(
        test_checkpoint="checkpoints/fedlopt-adafac32_mlp32_digits_8_K8_H4_0.5_quickstart"
    ),
    "fedlagg": dict(test_checkpoint="checkpoints/fedlagg32_mlp32_digits_8_K8_H4_0.5_quickstart"),
    "fedlopt": dict(test_checkpoint="checkpoints/fedlopt32_mlp32_digits_8_K8_H4_0.5_quickstart"),
    "fedlagg-wavg": dict(test_checkpoint="checkpoints/fedlagg-wavg32_mlp32_digits_8_K8_H4_0.5_quickstart"),
}
