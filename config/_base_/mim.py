# What the runs of masked modelling share: glyphs in colour of 16x16, patches of 4, a narrow vision transformer of 4 blocks,
# 4 clients whose AdamW goes on over rounds. Half of the 16 patches is seen: from a quarter, and with noise in the images,
# too little of a character can be told. One histogram per cell, of the strongest channel: three would be of more noise.
# The rate is blr * batch / 256 with blr 2.5e-3 and the 4 x 128 examples of a round. A base, not to be run by itself.
run_type = "benchmark"
task = "vit_p4_h32_m64_nh2_nl4_glyphsrgb_16"
objective = "localmim"
objective_options = dict(target="hog_strongest", mask_ratio=0.5, decoder_width=16, stage_weights="late")
optimizer = "fedavg"
num_grads = 4
num_local_steps = 8
local_batch_size = 16
local_optimizer = "adamw-matrices"
local_learning_rate = 0.0025 * 512 / 256
keep_local_state = True
num_inner_steps = 480
eval_every = 80
eval_examples = 1000
num_runs = 3
probe_examples = 4000
probes = ("linear50", "linear", "knn")
save_iter = 80
