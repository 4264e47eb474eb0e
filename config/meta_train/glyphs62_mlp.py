# LAgg-A on colour glyphs of 62 classes at 32 pixels: the embedded twin of mlp128x128_imagenet_32.
# Source: the setting of Joseph et al., TMLR 2025, arXiv:2312.02204, shorter.
# Run:    python src/main.py --config config/meta_train/glyphs62_mlp.py
# Expect: the meta-loss starts near ln 62 = 4.13 and falls; 1,000 outer steps: hours on two cores. Its checkpoint is what
#         the larger models of config/meta_test/families_*.py may be tested with.
_base_ = "glyphs_mlp.py"
task = "mlp128x128_glyphs62rgb_32"
