# Who averages the clients' blocks: FedAvg, Nesterov and lagg-set, with grids; lagg-set with its network off is FedAvg at
# the same rate. Non-IID clients; a base of 300 steps, so that much is left to learn. The server's half trains at one
# rate in all of them. benchmarks/split.py takes each method's best case by the last loss on outer_valid.
# Source: benchmarks/split.py reads its results: a row of `make claims CLAIM=split`.
# Run:    python src/main.py --config config/split/fmnist_aggregators.py --tfds_data_dir ../shared/data/tfds
# Expect: table.csv and report.html in runs/.
_base_ = "../_base_/split_fmnist.py"
num_grads = 8
num_clients = 8
partition = "dirichlet"
partition_alpha = 0.3
num_inner_steps = 80
eval_every = 8
eval_examples = 1000
local_optimizer = "sgd"
keep_local_state = False
_rates = (0.005, 0.01, 0.02, 0.05)
_beyond = 0.1  # beyond the edges that the best of lagg-set and Nesterov lay on
_nesterov = (
    (0.005, 0.7, 0.9),
    (0.01, 0.7, 0.6),
    (0.01, 0.7, 0.9),
    (0.02, 0.7, 0.6),
    (0.02, 0.7, 0.9),
    (0.02, 1.0, 0.9),
)
_nesterov_beyond = ((0.02, 1.4, 0.9), (0.05, 0.7, 0.9), (0.05, 1.0, 0.9))


def _nesterov_cases(grid):
    return [
        dict(
            label="Nesterov, %g, %g, %g" % (r, lr, beta),
            optimizer="diloco",
            local_learning_rate=r,
            learning_rate=lr,
            beta=beta,
        )
        for r, lr, beta in grid
    ]


split = dict(
    base_steps=300,
    bottleneck="linear",
    latent_dim=4,
    server_learning_rate=0.03,
    cases=[
        *(dict(label="FedAvg, %g" % r, optimizer="fedavg", local_learning_rate=r) for r in _rates),
        *_nesterov_cases(_nesterov),
        *(dict(label="lagg-set, %g" % r, test_checkpoint="lagg-set", local_learning_rate=r) for r in _rates),
        *_nesterov_cases(_nesterov_beyond),
        dict(label="FedAvg, %g" % _beyond, optimizer="fedavg", local_learning_rate=_beyond),
        dict(label="lagg-set, %g" % _beyond, test_checkpoint="lagg-set", local_learning_rate=_beyond),
    ],
)
