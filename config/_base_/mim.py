# What the runs of masked modelling share: glyphs in colour of 16x16, patches of 4, a narrow vision transformer of 6 blocks,
# 4 clients. The rate is blr * batch / 256 with blr 4e-3 and the 4 x 64 examples of a round. Half of the patches are hidden and
# pixels are the target: of 16 patches 75 % leave four, and HOG's cells are of one to eight pixels. One worker's 1,600 steps
# of 64 images took a probe with 50 labels from 11.5 % to 15.8 % with HOG and 75 %, to 16.8 % with pixels and 50 %; 3,000 of
# them to 22.2 %, 6,000 to 23.7 %. In 800 rounds of 4 clients it reached 12.3 % with clients whose AdamW starts anew each
# round, and 16.2 % with those that keep its state (3 seeds; 10.5 % before training). A base, not to be run by itself.
run_type = "benchmark"
task = "vit_p4_h64_m128_nh4_nl6_glyphsrgb_16"
objective = "localmim"
objective_options = dict(decoder_width=32, target="pixels", mask_ratio=0.5)
optimizer = "fedavg"
num_grads = 4
num_local_steps = 4
local_batch_size = 16
local_optimizer = "adamw-matrices"
keep_local_state = True
local_learning_rate = 0.004 * 256 / 256
num_inner_steps = 800
eval_every = 200
eval_examples = 1000
num_runs = 3
probe_examples = 4000
probes = ("linear50", "linear", "knn")
save_iter = 200
