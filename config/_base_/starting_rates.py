# The classical rules at rates to start from on any of config/_base_/problems, not tuned (config/sweeps tunes them), and
# the pretrained aggregator. A base, not to be run by itself: `--optimizer NAME` takes the row of that name.
by_optimizer = {
    "fedavg": dict(),  # McMahan et al. 2017, arXiv:1602.05629; local_learning_rate is the problem's
    "fedavgm": dict(learning_rate=1.0, beta=0.7),  # Hsu et al. 2019, arXiv:1909.06335
    "fedavg-slowmo": dict(slowmo_learning_rate=0.5, beta=0.7),  # Wang et al. 2020, arXiv:1910.00643
    # Outer Nesterov over local AdamW: Douillard et al. 2023, arXiv:2311.08105.
    "diloco": dict(learning_rate=0.7, beta=0.9, local_optimizer="adamw", local_learning_rate=0.003),
    "nesterov-decay": dict(learning_rate=1.0, beta=0.7),  # a control; rule_options.rounds is the run's length
    # Reddi et al. 2021, arXiv:2003.00295, Algorithm 2.
    "fedadam": dict(learning_rate=0.03),
    "fedyogi": dict(learning_rate=0.03),
    "fedadagrad": dict(learning_rate=0.1),
    # Data-parallel: one step per round, of K x B examples.
    "sgd": dict(learning_rate=0.5),  # Robbins and Monro 1951
    "adam": dict(learning_rate=0.01),  # Kingma and Ba 2015, arXiv:1412.6980
    "fedlagg-set": dict(test_checkpoint="lagg-set"),  # checkpoints/pretrained/lagg-set
}
