# LAgg-A on glyphs of 14x14 pixels with a small convolutional network: conv-c10's embedded twin.
# Source: the setting of Joseph et al., TMLR 2025, arXiv:2312.02204, shorter.
# Run:    python src/main.py --config config/meta_train/glyphs_conv.py
# Expect: the meta-loss starts near ln 10 = 2.30 and falls slowly; 1,000 outer steps of 2 x 8 x 20 rounds, each about
#         five seconds on two cores. Stop when it is good enough; --from_checkpoint goes on.
_base_ = "glyphs_mlp.py"
task = "conv16x32_glyphs_14"
local_batch_size = 32
truncation_length = 20
truncation_schedule_min_length = 20
num_inner_steps = 200
