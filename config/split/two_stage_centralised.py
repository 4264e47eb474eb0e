# Split learning in two stages, centrally: an autoencoder pretrained on the downstream set, then one client, which holds
# all of the data and the first half of the model, and a server with the second half.
# Source: the two stages of split learning, docs/split.md.
# Run:    python src/main.py --config config/split/two_stage_centralised.py
#         ... --cfg-options split.ae_dataset=digits   (option 1: the autoencoder's data are another set)
# Expect: table.csv, clients.csv, rounds.csv and report.html in runs/; a few minutes on two cores.
run_type = "split"
name = "two_stage_centralised"
task = "vit_p7_h32_m64_nh2_nl4_glyphs_28"
optimizer = "fedavg"
num_grads = 1
local_learning_rate = 0.1
local_batch_size = 64
num_local_steps = 8
num_inner_steps = 100
eval_every = 10
num_runs = 3
save_iter = 20
split = dict(split_layer=2, bottleneck="mlp1", latent_dim=4, val_mode="early_saving")
