# Option 2: clients with few classes each train autoencoders of their own; their decoders aggregated, or one for each.
# Source: benchmarks/split.py reads its results: a row of `make claims CLAIM=split`.
# Run:    python src/main.py --config config/split/fmnist_decoders.py --tfds_data_dir ../shared/data/tfds
# Expect: clients.csv with each client's reconstruction errors.
_base_ = "../_base_/split_fmnist.py"
num_grads = 8
num_clients = 8
partition = "dirichlet"
partition_alpha = 0.1
num_inner_steps = 20
eval_every = 20
split = dict(
    bottleneck="mlp1",
    latent_dim=4,
    ae_training="distributed",
    ae_epochs=20,
    cases=[
        dict(label="own decoders", decoders="own"),
        dict(label="aggregated decoders", decoders="aggregated"),
    ],
)
