# DiLoCo: outer Nesterov over local AdamW. An MLP 196-64-10 on glyphs of 14x14 pixels.
# Source: Douillard et al. 2023, arXiv:2311.08105.
# Run:    python src/main.py --config config/meta_test/diloco_glyphs.py
# Expect: 100 rounds of 10 seeds; rounds.csv and report.html in runs/. The rates are starting points, not
#         tuned: see config/sweeps. Needs nothing: the images are drawn once and cached; minutes on 2 cores.
_base_ = "../_base_/meta_test_glyphs.py"
optimizer = "diloco"
learning_rate = 0.7
beta = 0.9
local_optimizer = "adamw"
local_learning_rate = 0.003
