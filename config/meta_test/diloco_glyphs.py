# DiLoCo: outer Nesterov over local AdamW. An MLP 784-128-128-10 on glyphs.
# Source: Douillard et al. 2023, arXiv:2311.08105.
# Run:    python src/main.py --config config/meta_test/diloco_glyphs.py
# Expect: 200 rounds of 10 seeds; rounds.csv and report.html in runs/. The rates are starting points, not
#         tuned: see config/sweeps. Needs nothing: the images are drawn once and cached; minutes on 2 cores.
_base_ = "../_base_/meta_test_glyphs.py"
optimizer = "diloco"
learning_rate = 0.7
beta = 0.9
local_optimizer = "adamw"
local_learning_rate = 0.003
