"""muP: a parametrization of the inner problem in which one aggregator, and one set of rates, fit every width."""

from typing import Any, NamedTuple

import jax

from learned_aggregation.types import Aggregator, ClientUpdate, Key, Params, Parts, Sums, Task


class Factors(NamedTuple):
    """What muP multiplies, one float a tensor: trees shaped like params.

    init: the initial weights. forward: the weights where the model uses them.
    sgd: a client's rate for plain gradients; adam: for updates whose size does not depend on the gradient's.
    """

    init: Params
    forward: Params
    sgd: Params
    adam: Params


def infer_factors(model: Params, base: Params, wider: Params) -> Factors:
    """The factors of a model from the shapes of its parameters at three widths.

    A dimension is infinite if `base` and `wider` differ in it; its ratio r is model / base. Flax's kernels are
    [..., fan_in, fan_out] and vectors [fan_out], so each tensor is one of:

    | tensor | infinite | init | forward | sgd | adam |
    |---|---|---|---|---|---|
    | input weights, biases and scales of hidden layers | fan_out | 1 | 1 | r | 1 |
    | hidden weights | both | 1 | 1 | r_out/r_in | 1/r_in |
    | output weights | fan_in | sqrt(r) | 1/r | r | 1 |
    | output bias | none | 1 | 1 | 1 | 1 |

    init is relative to an initialisation of variance 1/fan_in, the models' own. At the base's widths all are 1.

    Args:
      model, base, wider: params, or their shapes (`jax.eval_shape`), of one model at three widths; `base` and
        `wider` have unlike widths in every layer.
    Raises:
      ValueError: trees or ranks that differ.
    References:
      Yang et al., "Tensor Programs V", 2022, arXiv:2203.03466, Table 8; its use for learned optimizers: Therien
      et al., "muLO", arXiv:2406.00153.
    """
    rows = jax.tree.map(_factors_of, model, base, wider)
    return jax.tree.transpose(jax.tree.structure(model), jax.tree.structure(Factors(0, 0, 0, 0)), rows)


def _factors_of(leaf: Any, base: Any, wider: Any) -> Factors:
    if not len(leaf.shape) == len(base.shape) == len(wider.shape):
        raise ValueError(f"mup: expected equal ranks, got {leaf.shape}, {base.shape} and {wider.shape}.")
    ratios = [None if b == w else o / b for o, b, w in zip(leaf.shape, base.shape, wider.shape, strict=True)]
    fan_out = ratios[-1] if ratios else None
    fan_in = ratios[-2] if len(ratios) > 1 else None
    if fan_in is None:
        return Factors(1.0, 1.0, fan_out or 1.0, 1.0)
    if fan_out is None:
        return Factors(fan_in**0.5, 1.0 / fan_in, fan_in, 1.0)
    return Factors(1.0, 1.0, fan_out / fan_in, 1.0 / fan_in)


def _times(factors: Params, tree: Any) -> Any:
    """Leaf by leaf; a factor of 1 leaves no trace in the program, and None (a masked leaf) stays None."""
    return jax.tree.map(
        lambda factor, leaf: leaf if leaf is None or factor == 1.0 else factor * leaf, factors, tree
    )


def mup_task(task: Task, factors: Factors) -> Task:
    """The task with muP's initialisation and multipliers; its params are what the model used times 1/forward."""

    def init(key: Key):
        params, model_state = task.init(key)
        return _times(factors.init, params), model_state

    def loss(params: Params, model_state: Any, key: Key, batch: Any):
        return task.loss(_times(factors.forward, params), model_state, key, batch)

    def evaluate(params: Params, model_state: Any, key: Key, batch: Any):
        return task.evaluate(_times(factors.forward, params), model_state, key, batch)

    return task._replace(init=init, loss=loss, evaluate=evaluate)


def mup_aggregator(aggregator: Aggregator, factors: Factors) -> Aggregator:
    """The aggregator on deltas whose size does not depend on the width: step = adam * rule(delta / adam).

    Under muP the clients' deltas of hidden weights shrink as 1/fan_in and those of all others do not. The rule
    sees them all at the size that they have at the base's width, and its step is scaled back:

    - a rule that is linear in the deltas (fedavg, SlowMo, momentum, Nesterov) is unchanged: its muP is carried
      by the clients' rates;
    - a step whose size does not follow the deltas' (the learned aggregators of the published form, whose
      features are normalised; FedAdam) gets Adam's factor, 1/fan_in for hidden weights and 1 for others;
    - a learned correction of a classical base is in proportion to the base, so it is carried along;
    - small constants in the rules (1e-5 in the features' normalisation, tau) weigh the same at every width.
    """
    larger = jax.tree.map(lambda factor: 1.0 / factor, factors.adam)

    def update(theta: Any, cohort: ClientUpdate, state: Any, params: Params):
        cohort = cohort._replace(delta=_times(larger, cohort.delta))
        step, state = aggregator.update(theta, cohort, state, params)
        return _times(factors.adam, step), state

    return aggregator._replace(
        update=update, sums=aggregator.sums and _mup_sums(aggregator.sums, factors, larger)
    )


def _mup_sums(sums: Sums, factors: Factors, larger: Params) -> Sums:
    """The sums over deltas * larger."""

    def add(partial: Any, delta: Params, weight: Any) -> Any:
        return sums.add(partial, _times(larger, delta), weight)

    def finish(theta: Any, partial: Any, state: Any, params: Params):
        step, state = sums.finish(theta, partial, state, params)
        return _times(factors.adam, step), state

    return sums._replace(add=add, finish=finish)


def in_mup(parts: Parts, factors: Factors, adaptive: bool) -> Parts:
    """The same round in muP: the task's multipliers, a rate for each tensor on the clients, the rule rescaled.

    Args:
      adaptive: whether the local optimizer's updates do not grow with the gradient (`adam` in place of `sgd`).
    """
    task = mup_task(parts.task, factors)
    clients = parts.clients.rebuild(task, factors.adam if adaptive else factors.sgd)
    return parts._replace(task=task, clients=clients, aggregator=mup_aggregator(parts.aggregator, factors))


def shapes_of(task: Task) -> Params:
    """The shapes of a task's params; nothing is computed."""
    return jax.eval_shape(task.init, jax.random.key(0))[0]
