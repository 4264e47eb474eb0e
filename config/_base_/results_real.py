# Methods and grids of the comparisons of docs/results_real.md. A base, not to be run by itself: a file of
# config/results_real/ takes `entrants` from `_methods` by its clients' optimizer, fine or coarse.
#
# Equal budgets: every method is tuned over a grid of 12 points (fine) or 6 (coarse; Nesterov, the strongest rival, 12),
# with `tuning_seeds` seeds that no final run has, by the mean or the last loss on outer_valid; a grid grows by a value
# beyond an edge that its best point lies on, `widen` times, for all alike. A grid over momenta has more edges, so that
# rivals end with more points than lagg-set, never with fewer. "untuned" methods have no grid at all.
# lagg-set's grid is half over its strength (its learned networks' outputs times .25 or 1; a grid that grows below ends at 0,
# the base alone). It was over rates only when the breast-cancer table and Fashion-MNIST at H 4 and 8 were first run: lagg-set
# lost both comparisons on the table to FedAvg (mean losses .041 and .042 against .032 and .020) and won on Fashion-MNIST.
#
# FedAvg (McMahan et al., arXiv:1602.05629) averages the same clients; the local rate is all that it has to tune.
# SlowMo (Wang et al., arXiv:1910.00643) is written as fedavgm, the same rule with slowmo_learning_rate = rate * gamma.
# Nesterov is the server's momentum; over AdamW it is DiLoCo (Douillard et al., arXiv:2311.08105), over Muon MuLoCo
# (Thérien et al., arXiv:2505.23725), which also run with the outer settings that these papers recommend, .7 with .9 and
# .6. "Nesterov, decay" has a server rate that falls in a straight line to 0 over the run: a control for who knows its
# length. SNOO (Kallusky et al., arXiv:2510.15830) is Nesterov over ONE worker that takes the examples of all.
# SparseLoCo (Sarfi et al., arXiv:2508.15706) is Nesterov over 1.56 % of the numbers with error feedback. FedAdam (Reddi et
# al., arXiv:2003.00295) tunes its tau. Data-parallel: one worker of batch K * B, which takes the same H steps on the same
# number of examples and would communicate at each of them. Adaptive clients keep their state, as DiLoCo's.
#
# DATA in the files' commands: --tfds_data_dir DIR/tfds --text_file DIR/tinyshakespeare.txt --fsdd_file DIR/fsdd.npz, of which
# a file needs its own. The language models have 135,000 numbers, not 1 to 3 million, for the budget's sake.
#
# Budget: seconds of CPU measured on a quiet machine for FedAvg, evaluations included, by runs of a few rounds or whole ones;
# minutes of two cores, compilation included. Tuning runs count half of what grids may grow by; if all of them grew
# everywhere it would be 11.3 hours in the place of 10.0. The aggregators' own time is not in it; neither is what is
# saved where the point with the best mean is that with the best end, whose runs are the same.
# | comparison | rounds | CPU seconds per round | methods | tuning runs | final runs | minutes |
# |---|---|---|---|---|---|---|---|
# | fmnist_mlp_h4 | 200 | 0.014 | 15 | 317 | 150 | 12 |
# | fmnist_mlp_h8 | 200 | 0.024 | 15 | 158 | 150 | 13 |
# | fmnist_mlp_h16 | 200 | 0.043 | 15 | 158 | 150 | 23 |
# | fmnist_mlp_k32 | 200 | 0.018 | 12 | 242 | 120 | 12 |
# | fmnist_mlp_dirichlet | 200 | 0.024 | 12 | 242 | 120 | 15 |
# | fmnist_conv_h4 | 300 | 0.087 | 12 | 64 | 120 | 42 |
# | fmnist_conv_h8 | 200 | 0.080 | 12 | 64 | 120 | 27 |
# | fmnist_conv_dirichlet | 200 | 0.080 | 12 | 64 | 120 | 27 |
# | c10_conv_iid | 300 | 0.085 | 12 | 64 | 120 | 41 |
# | c10_conv_dirichlet | 300 | 0.085 | 12 | 64 | 120 | 41 |
# | fmnist_vit_adamw | 200 | 0.120 | 13 | 68 | 130 | 44 |
# | shakespeare_adamw | 60 | 0.380 | 17 | 101 | 170 | 57 |
# | shakespeare_muon | 40 | 0.650 | 17 | 101 | 170 | 66 |
# | pytext_adamw | 60 | 0.380 | 13 | 68 | 130 | 42 |
# | pytext_muon | 40 | 0.650 | 13 | 68 | 130 | 48 |
# | speech_h4 | 200 | 0.037 | 12 | 121 | 120 | 17 |
# | speech_h8 | 200 | 0.067 | 12 | 121 | 120 | 29 |
# | speech_k3 | 200 | 0.037 | 12 | 121 | 120 | 17 |
# | speech_adamw | 100 | 0.150 | 13 | 68 | 130 | 27 |
# | breast_iid | 100 | 0.002 | 12 | 363 | 120 | 2 |
# | breast_dirichlet | 100 | 0.002 | 12 | 363 | 120 | 2 |
run_type = "compare"
num_grads = 8
num_local_steps = 4
local_batch_size = 32
num_inner_steps = 200
eval_every = 5
eval_examples = 2000
num_runs = 10
widen = 1
tune_by = "mean"

_checkpoint = "lagg-bank"
"""The learned aggregator that all the tables are about, by the rule's name "lagg-set": its own stands here alone. With
adaptive clients it has the strength that its card gives, chosen on Fashion-MNIST's and pytext's outer_valid with one
seed (strengths 1, .7, .5, .25, .1) before any of these comparisons was run."""
_untuned_rates = dict(sgd=0.2, adamw=0.003, muon=0.01)
"""The clients' rate that the aggregator's card names, by the clients' optimizer."""

# Clients' optimizer -> 12 local rates, each 1.4 times the last; every other one is the coarse grid.
_rates = dict(
    sgd=[0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.16, 0.24, 0.32, 0.48, 0.64, 0.96],
    adamw=[3e-4, 4e-4, 6e-4, 8e-4, 1.2e-3, 1.6e-3, 2.4e-3, 3.2e-3, 4.8e-3, 6.4e-3, 9.6e-3, 0.0128],
    muon=[6e-4, 8e-4, 1.2e-3, 1.6e-3, 2.4e-3, 3.2e-3, 4.8e-3, 6.4e-3, 9.6e-3, 0.0128, 0.02, 0.03],
)
# Clients' optimizer -> two local rates under a server that goes further than the mean; a grid grows where they are off.
_pair = dict(sgd=[0.12, 0.32], adamw=[1.2e-3, 3.2e-3], muon=[3.2e-3, 9.6e-3])
# Three of them, where the learned rule's strength is the coarse grid's other half.
_three = dict(sgd=[0.08, 0.16, 0.32], adamw=[1.2e-3, 2.4e-3, 4.8e-3], muon=[4.8e-3, 9.6e-3, 0.02])


def _grids(client, fine):
    """What each kind of method is tuned over: 12 points, or 6."""
    momentum = dict(local_learning_rate=_pair[client], learning_rate=[0.7, 1.4], beta=[0.5, 0.75, 0.9])
    return dict(
        rate=dict(local_learning_rate=_rates[client][:: 1 if fine else 2]),
        learned={
            "local_learning_rate": _rates[client][::2] if fine else _three[client],
            "rule_options.strength": [0.25, 1.0],
        },
        nesterov=momentum,
        momentum=dict(momentum, learning_rate=[0.7, 1.4] if fine else [1.0]),
        fedadam={
            "local_learning_rate": _pair[client],
            "learning_rate": [1e-3, 3e-3, 1e-2],
            "rule_options.tau": [1e-3, 1e-2] if fine else [1e-3],
        },
    )


def _learned(grid, client):
    made = dict(optimizer="fedlagg-set", test_checkpoint=_checkpoint)
    return [
        dict(label="lagg-set", sweep=grid["learned"], **made),
        dict(label="lagg-set (by last)", tune_by="last", sweep=grid["learned"], **made),
        dict(label="lagg-set (untuned)", local_learning_rate=_untuned_rates[client], **made),
    ]


def _shared(client, grid, rounds):
    """FedAvg, first by its last loss, which sets the targets, and at the rate of the untuned aggregator; SlowMo; Nesterov; Nesterov with a decay."""
    nesterov = dict(optimizer="diloco", sweep=grid["nesterov"])
    decay = dict(optimizer="nesterov-decay", rule_options=dict(rounds=float(rounds)), sweep=grid["momentum"])
    return [
        dict(label="FedAvg", optimizer="fedavg", tune_by="last", sweep=grid["rate"]),
        dict(label="FedAvg (by mean)", optimizer="fedavg", sweep=grid["rate"]),
        dict(label="FedAvg (untuned)", optimizer="fedavg", local_learning_rate=_untuned_rates[client]),
        dict(label="SlowMo (by mean)", optimizer="fedavgm", sweep=grid["momentum"]),
        dict(label="SlowMo (by last)", optimizer="fedavgm", tune_by="last", sweep=grid["momentum"]),
        dict(label="Nesterov (by mean)", **nesterov),
        dict(label="Nesterov (by last)", tune_by="last", **nesterov),
        dict(label="Nesterov, decay (by last)", tune_by="last", **decay),
    ]


def _of_sgd(fine, rounds):
    grid = _grids("sgd", fine)
    fedadam = dict(label="FedAdam", optimizer="fedadam", sweep=grid["fedadam"])
    return [*_shared("sgd", grid, rounds), fedadam, *_learned(grid, "sgd")]


def _of_adaptive(client, rounds, examples, all_rivals):
    """examples: K * B, of a worker that stands for all clients. Coarse grids, for time."""
    grid = _grids(client, False)
    name, local = dict(adamw=("DiLoCo", "AdamW"), muon=("MuLoCo", "Muon"))[client]
    published = [
        dict(
            label=f"{name} (.7, .{mu})",
            optimizer="diloco",
            learning_rate=0.7,
            beta=mu / 10,
            sweep=grid["rate"],
        )
        for mu in (9, 6)
    ]
    alone = dict(num_grads=1, partition="shared", local_batch_size=examples)
    parallel = dict(label=f"data-parallel {local}", optimizer="fedavg", sweep=grid["rate"], **alone)
    sparse = dict(
        compressor="sparseloco", compressor_options=dict(error_feedback="ef14", feedback_decay=0.95)
    )
    more = [
        dict(label="SNOO", optimizer="diloco", sweep=grid["momentum"], **alone),
        dict(label="SparseLoCo", optimizer="diloco", sweep=grid["momentum"], **sparse),
        dict(label="FedAdam", optimizer="fedadam", sweep=grid["fedadam"]),
    ]
    rivals = [*published, parallel, *more] if all_rivals else [published[0], parallel]
    return [*_shared(client, grid, rounds), *rivals, *_learned(grid, client)]


# The methods of a file, by its clients' optimizer, its rounds (which the decay must know) and its K * B.
_methods = {
    **{f"sgd, fine, {rounds} rounds": _of_sgd(True, rounds) for rounds in (100, 200)},
    **{f"sgd, coarse, {rounds} rounds": _of_sgd(False, rounds) for rounds in (200, 300)},
    "adamw, text": _of_adaptive("adamw", 60, 4 * 8, True),
    "adamw, text, short": _of_adaptive("adamw", 60, 4 * 8, False),
    "muon, text": _of_adaptive("muon", 40, 4 * 8, True),
    "muon, text, short": _of_adaptive("muon", 40, 4 * 8, False),
    "adamw, images": _of_adaptive("adamw", 200, 4 * 8, False),
    "adamw, speech": _of_adaptive("adamw", 100, 6 * 32, False),
}
# Joseph et al., TMLR 2025, arXiv:2312.02204: learned rules of the published form, made for K = 8; H is the file's.
_paper_rates = dict(local_learning_rate=_rates["sgd"])
_published = [
    dict(label="LAgg-A", optimizer="fedlagg-adafac", test_checkpoint="lagg-a-k8-h4", sweep=_paper_rates),
    dict(label="LOpt-A", optimizer="fedlopt-adafac", test_checkpoint="lopt-a-h4", sweep=_paper_rates),
]
# Its Adam: data-parallel, one step per round on K * H * B examples; the file says local_batch_size = H * B.
_adam = dict(label="Adam", optimizer="adam", sweep=dict(learning_rate=_rates["adamw"]))
