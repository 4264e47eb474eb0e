# Split learning in two stages, distributed (option 2): 8 clients with few classes each train autoencoders on their own
# data, their decoders are averaged by n_k/n; then they train the model's first half through them.
# Source: the two stages of split learning, docs/split.md.
# Run:    python src/main.py --config config/split/two_stage_distributed.py
#         ... --cfg-options split.decoders=own          (the server keeps a decoder for each client)
#         ... --cfg-options split.ae_training=central split.ae_dataset=digits   (option 1)
# Expect: table.csv, clients.csv, rounds.csv and report.html in runs/; some minutes on two cores.
run_type = "split"
name = "two_stage_distributed"
task = "vit_p7_h32_m64_nh2_nl4_glyphs_28"
optimizer = "fedavg"
num_grads = 8
num_clients = 8
partition = "dirichlet"
partition_alpha = 0.3
local_learning_rate = 0.1
local_batch_size = 16
num_local_steps = 4
num_inner_steps = 100
eval_every = 10
num_runs = 3
save_iter = 20
split = dict(split_layer=2, bottleneck="mlp1", latent_dim=4, ae_training="distributed", decoders="aggregated")
