# LAgg with the mean as an extra input (fedlagg-wavg), learned. An MLP 196-64-10 on glyphs of 14x14 pixels.
# Source: Joseph et al., TMLR 2025, arXiv:2312.02204.
# Run:    python src/main.py --config config/meta_train/glyphs_mlp.py --optimizer fedlagg-wavg
#         python src/main.py --config config/meta_test/fedlagg-wavg_glyphs.py
# Expect: the first command meta-trains the checkpoint that the second tests for 100 rounds of 10 seeds;
#         rounds.csv and report.html in runs/. Needs nothing: the images are drawn once and cached; minutes on 2 cores.
_base_ = "../_base_/meta_test_glyphs.py"
optimizer = "fedlagg-wavg"
test_checkpoint = "checkpoints/fedlagg-wavg32_mlp128x128_glyphs_28_K8_H4_0.5"
