# LAgg-A on several tasks at once, embedded: the twin of the mixes.
# Source: the setting of Joseph et al., TMLR 2025, arXiv:2312.02204, shorter.
# Run:    python src/main.py --config config/meta_train/glyphs_mix.py
# Expect: one meta-loss a task in metrics.csv, all falling; 1,000 outer steps of 2 x 4 x 3 x 20 rounds, a few seconds
#         each on two cores.
_base_ = "glyphs_mlp.py"
task = ["mlp64x64_glyphs_14", "mlp32_digits_8", "conv16x32_glyphs_14"]
num_tasks = 4
local_batch_size = 32
truncation_length = 20
truncation_schedule_min_length = 20
num_inner_steps = 200
