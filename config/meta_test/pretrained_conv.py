# The pretrained lagg-set on glyphs with a conv net, which it was meta-trained on, against FedAvg and server momentum at
# the rates that docs/results.md found best for each on outer_valid.
#
# Source:  the comparison config/results/conv_h4.py of docs/results.md, without its tuning.
# Run:     python src/main.py --config config/meta_test/pretrained_conv.py
# Expect:  lagg-set reaches FedAvg's last loss in about a fifth of the rounds; a minute on two cores.
run_type = "compare"
name = "pretrained_conv"
task = "conv8x16_glyphs_8"
num_grads = 8
num_local_steps = 4
local_batch_size = 16
num_inner_steps = 100
eval_every = 2
num_runs = 10
entrants = [
    dict(label="FedAvg", optimizer="fedavg", local_learning_rate=1.4),
    dict(label="SlowMo", optimizer="fedavgm", local_learning_rate=0.25, learning_rate=3.0, beta=0.8),
    dict(
        label="Nesterov",
        optimizer="diloco",
        local_optimizer="sgd",
        local_learning_rate=0.5,
        learning_rate=1.0,
        beta=0.987,
    ),
    dict(label="lagg-set", optimizer="fedlagg-set", test_checkpoint="lagg-set", local_learning_rate=2.0),
]
