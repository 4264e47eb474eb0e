# A siamese masked autoencoder on drawn clips: 8 clients, a family of motions each; AdamW, H = 4, 2 clips a local step.
# A base, not to be run by itself: config/ssl/ and benchmarks/siammae_federated.py run it.
run_type = "benchmark"
task = "siammae_p8_h96_m384_nh3_nl3_dh64_dnh4_dnl2_photoclipslit_48"
objective = "siammae"
# The clips have 13 frames. epsilon is .01 of the square of a pixel's range: what flat patches hold is noise.
objective_options = dict(shortest_gap=1, longest_gap=12, epsilon=0.16)
partition = "natural"
num_clients = 8
num_grads = 8
num_local_steps = 4
local_batch_size = 2
local_optimizer = "adamw-matrices"  # decay .05 on tensors of rank above 1, as the paper has it
local_learning_rate = 2e-3
num_inner_steps = 120
eval_every = 20
num_runs = 3
