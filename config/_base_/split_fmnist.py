# What the tables of split learning share: Fashion-MNIST of 28x28, a transformer of width 32 and two blocks cut in the
# middle, 4 clients. The base is the whole model after 1,200 steps of Adam on the same set, in the place of one that was
# pretrained elsewhere. A base, not to be run by itself.
run_type = "split"
task = "vit_p7_h32_m64_nh2_nl2_fmnist_28"
optimizer = "fedavg"
num_grads = 4
num_clients = 4
partition = "iid"
local_optimizer = "adamw"
keep_local_state = True
local_learning_rate = 0.002
local_batch_size = 16
num_local_steps = 4
num_inner_steps = 120
eval_every = 40
eval_examples = 4000
num_runs = 3
save_iter = 40
split = dict(split_layer=1, base_steps=1200, ae_proportion=0.2, ae_epochs=10)
