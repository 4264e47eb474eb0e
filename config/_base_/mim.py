# What the runs of masked modelling share: glyphs in colour of 16x16, patches of 4, a narrow vision transformer of 6 blocks,
# 4 clients. The rate is blr * batch / 256 with blr 2e-3 and the 4 x 64 examples of a round. A base, not to be run by itself.
run_type = "benchmark"
task = "vit_p4_h64_m128_nh4_nl6_glyphsrgb_16"
objective = "localmim"
objective_options = dict(decoder_width=32, stage_weights="late")
optimizer = "fedavg"
num_grads = 4
num_local_steps = 4
local_batch_size = 16
local_optimizer = "adamw-matrices"
local_learning_rate = 0.002 * 256 / 256
num_inner_steps = 400
eval_every = 100
eval_examples = 1000
num_runs = 3
probe_examples = 4000
probes = ("linear50", "linear", "knn")
save_iter = 100
