# An MLP 196-64-10 on glyphs of 14x14 pixels: any one rule, at rates to start from, not tuned (see config/sweeps).
# Source: Joseph et al., TMLR 2025, arXiv:2312.02204 (learned); the others' papers are in config/_base_/starting_rates.py.
# Run:    python src/main.py --config config/meta_test/glyphs.py --optimizer adam
#         python src/main.py --config config/meta_train/glyphs_mlp.py --optimizer RULE
#         python src/main.py --config config/meta_test/glyphs.py --optimizer RULE
# Expect: rounds.csv and report.html in runs/; 100 rounds of 10 seeds, minutes on 2 cores; the images are drawn once and
#         cached. RULE is a learned one, whose meta-training is long.
_base_ = ["../_base_/problems/glyphs.py", "../_base_/starting_rates.py"]
optimizer = "fedavg"
by_optimizer = {
    "fedlagg-adafac": dict(test_checkpoint="checkpoints/fedlagg-adafac32_mlp128x128_glyphs_28_K8_H4_0.5"),
    "fedlopt-adafac": dict(test_checkpoint="checkpoints/fedlopt-adafac32_mlp128x128_glyphs_28_K8_H4_0.5"),
    "fedlagg": dict(test_checkpoint="checkpoints/fedlagg32_mlp128x128_glyphs_28_K8_H4_0.5"),
    "fedlopt": dict(test_checkpoint="checkpoints/fedlopt32_mlp128x128_glyphs_28_K8_H4_0.5"),
    "fedlagg-wavg": dict(test_checkpoint="checkpoints/fedlagg-wavg32_mlp128x128_glyphs_28_K8_H4_0.5"),
}
