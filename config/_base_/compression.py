# Methods under compression: FedAvg, Nesterov and lagg-set at 32, 8, 4 and 2 bits per number and at the 1.56 % of largest
# magnitude, without error feedback and with it, every one tuned by its mean outer_valid loss under its own compression.
# sparseloco stands for a compression that lagg-set-compressed has not seen. A base, not to be run by itself.
#
# qsgd rounds at random to evenly spaced levels, the largest magnitude of 512 numbers the highest. The server's step goes
# down as it is. A grid grows beyond an edge that its best point lies on, once.
run_type = "compare"
num_grads = 8
num_local_steps = 4
local_batch_size = 32
num_inner_steps = 100
eval_every = 5
num_runs = 10
widen = 1
tune_by = "mean"
_rates = [0.35, 0.7, 1.4]
_nesterov = dict(local_learning_rate=[0.35, 0.7], learning_rate=[0.7, 1.4], beta=[0.3, 0.6, 0.85])


def _qsgd(bits):
    return dict(compressor="qsgd", compressor_options=dict(bits=bits, norm="max", bucket=512))


_compressions = {
    "8 bits": _qsgd(8),
    "4 bits": _qsgd(4),
    "2 bits": _qsgd(2),
    "top 1.56 %": dict(compressor="topk", compressor_options=dict(fraction=0.015625)),
}
_unseen = dict(compressor="sparseloco", compressor_options=dict(error_feedback="ef14"))


def _under_each(name, method):
    """The method without compression, then under each of them without and with feedback, then under the unseen one."""
    made = [dict(label=name + ", 32 bits", **method)]
    for compression, settings in _compressions.items():
        remembering = dict(settings["compressor_options"], error_feedback="ef14")
        made.append(dict(label=name + ", " + compression, **method, **settings))
        made.append(
            dict(
                label=name + ", " + compression + ", feedback",
                **method,
                **dict(settings, compressor_options=remembering),
            )
        )
    return made + [dict(label=name + ", sparseloco", **method, **_unseen)]


entrants = [
    *_under_each("FedAvg", dict(optimizer="fedavg", sweep=dict(local_learning_rate=_rates))),
    *_under_each("Nesterov", dict(optimizer="diloco", local_optimizer="sgd", sweep=_nesterov)),
    *_under_each(
        "lagg-set",
        dict(optimizer="fedlagg-set", test_checkpoint="lagg-set", sweep=dict(local_learning_rate=_rates)),
    ),
]
