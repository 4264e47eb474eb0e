"""`fedlagg-set`'s update with the CPU kernel: what `set_rule` computes, in one pass over the deltas.

Three calls for each tensor. The first reads the deltas: it gives the statistics over clients, the new history and sums
over the tensor. The second gives the mean squares of what is known only then, the base's step and the features of
Adafactor's form. The third is the step. Between them are small vectors, in XLA's program: what of a tensor or the whole
model is equal for all parameters enters the third as a bias of the network's first layer.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from learned_aggregation.aggregators.learned import bank
from learned_aggregation.aggregators.learned.accumulators import ema, factored_dims
from learned_aggregation.aggregators.learned.fast_blocks import View, view_of, view_without
from learned_aggregation.aggregators.learned.set_features import (
    ALIGNMENT_DECAYS,
    BOUND,
    LARGEST,
    LEAST_SPREAD,
    MOMENTUM_DECAYS,
    NUM_FEATURES,
    SECOND_DECAY,
    TINY,
    History,
    Sizes,
    cosine,
    inverse_roots,
    scalars_of,
    whole_model_of,
)
from learned_aggregation.kernels import set_step
from learned_aggregation.kernels.set_step import Statistics


class Terms(NamedTuple):
    """A base as a sum: mean * g + momenta @ momentum + velocity * v + (mean_root * g + slow_root * momentum[1]) / root.

    g is the mean delta, v the velocity, v <- decay * v + g; root that of the running mean square of g.
    """

    mean: Any = 0.0
    momenta: Any = (0.0, 0.0, 0.0)
    velocity: Any = 0.0
    mean_root: Any = 0.0
    slow_root: Any = 0.0

    def stacked(self) -> Float[Array, "7"]:
        parts = (self.mean, *self.momenta, self.velocity, self.mean_root, self.slow_root)
        return jnp.stack([jnp.asarray(part, jnp.float32) for part in parts])


def terms_of(base: str, learning_rate: Any, momentum: Any) -> Terms:
    """Of a base of `make_base`."""
    return {
        "mean": Terms(mean=learning_rate),
        "momentum": Terms(velocity=learning_rate),
        "nesterov": Terms(mean=learning_rate, velocity=learning_rate * momentum),
    }[base]


class Tensor(NamedTuple):
    """A tensor between the first two calls and the third. sizes: its base's is not known yet."""

    param: Float[Array, "N"]
    shape: tuple[int, ...]
    found: Statistics
    history: History


def read(
    param: Array,
    deltas: Float[Array, "K N"],
    share: Float[Array, "K"],
    old: History,
    velocity: Any,
    decay: Any,
) -> Tensor:
    """The first call. The history's last step is not there any more: the mean delta has taken its place.

    Args:
      velocity: the base's, or () for one without.
      decay: the velocity's.
    """
    shape, flat = param.shape, param.reshape(-1)
    decays = jnp.stack([jnp.asarray(d, jnp.float32) for d in (*MOMENTUM_DECAYS, SECOND_DECAY, decay)])
    velocity = jnp.zeros(0) if isinstance(velocity, tuple) else velocity.reshape(-1)
    dims, view = factored_dims(shape), view_of(shape)
    found = set_step.statistics(
        deltas,
        share,
        flat,
        decays,
        old.step,
        old.momentum,
        old.second,
        velocity,
        view=view,
        factored=dims is not None,
        tiny=TINY,
        least=LEAST_SPREAD,
        largest=LARGEST,
    )
    row, col = old.row, old.col
    if dims:
        d1, d0 = dims
        of_row, of_col = (found.along_p, found.along_q) if d1 < d0 else (found.along_q, found.along_p)
        row = ema_of(row, of_row / np.float32(shape[d0]))
        col = ema_of(col, of_col / np.float32(shape[d1]))
    along = cosine(found.sums.mean_last, found.sums.mean, found.sums.last)
    alignment = ema(jnp.array(ALIGNMENT_DECAYS), old.alignment, along)
    return Tensor(flat, shape, found, History(found.momentum, found.second, row, col, found.mean, alignment))


Weighing = Callable[[list[Tensor], tuple[Any, ...], Array, Array], tuple[list[Terms], Array]]
"""(tensors, the bank's velocities, effective number of clients, shared numbers) -> each tensor's terms, and how far its
gate and correction are open [T]."""


def weighing(weights: dict[str, Array], rate: Any) -> Weighing:
    """The bank's."""

    def terms(tensors, velocities, effective, shared):
        counts = [t.param.size for t in tensors]
        sums = [t.found.sums for t in tensors]
        squares = bank.Squares(
            jnp.stack(velocities),
            jnp.stack([jnp.stack(s.momenta) for s in sums]),
            *(
                jnp.stack(x)
                for x in zip(*((s.mean, s.last, s.clients, s.slow_root) for s in sums), strict=True)
            ),
        )
        sizes = bank.sizes_of(squares, jnp.stack([s.param for s in sums]), counts)
        of_tensors = [Sizes(*one) for one in zip(*sizes, strict=True)]
        scalars = [
            scalars_of(size, effective, t.history) for size, t in zip(of_tensors, tensors, strict=True)
        ]
        found = bank.weigh(weights, squares, counts, jnp.stack(scalars), shared, rate)
        of_tensors = zip(found.mean, found.momenta, found.slow_root, strict=True)
        return [Terms(mean, momenta, slow_root=slow) for mean, momenta, slow in of_tensors], found.open

    return terms


def ema_of(old: Array, square: Array) -> Array:
    return SECOND_DECAY * old + (1.0 - SECOND_DECAY) * square.reshape(old.shape)


def factors(tensor: Tensor, view: View) -> tuple[Array, Array]:
    """Adafactor's two factors, along p and q of the view; empty for rank < 2."""
    dims = factored_dims(tensor.shape)
    if dims is None:
        return jnp.zeros(0), jnp.zeros(0)
    d1, d0 = dims
    of_row = lax.rsqrt(tensor.history.row + TINY).reshape(view_without(tensor.shape, d0))
    of_col = lax.rsqrt(tensor.history.col + TINY).reshape(view_without(tensor.shape, d1))
    return (of_row, of_col) if d1 < d0 else (of_col, of_row)


def step(
    weights: dict[str, Array],
    tensor: Tensor,
    terms: Float[Array, "7"],
    effective: Float[Array, ""],
    shared: Float[Array, "S"],
    limits: tuple[float, float],
) -> tuple[Array, Array]:
    """The second and the third call: the tensor's step [*S], and [N] for its history."""
    (gain, trust), found, view, n = limits, tensor.found, view_of(tensor.shape), tensor.param.size
    of_tensor = factors(tensor, view)
    of_base, mean_factor, slow_factor = set_step.squares(found, of_tensor, terms, view, tiny=TINY)
    s = found.sums
    if factored_dims(tensor.shape) is None:
        mean_factor, slow_factor = s.mean_root, s.slow_root
    sums = [
        s.mean,
        of_base,
        *s.momenta,
        s.spread,
        s.param,
        s.mean_root,
        s.slow_root,
        mean_factor,
        slow_factor,
    ]
    inverse = inverse_roots([x / n for x in (*sums, s.ratio * effective, s.ratio)])
    base_square, size = of_base / n, s.clients / n
    sizes = Sizes(s.mean / n, size, s.momenta[1] / n, base_square, s.param / n)
    context = jnp.concatenate([scalars_of(sizes, effective, tensor.history), shared])
    of_features, of_context = weights["w0"][:NUM_FEATURES], weights["w0"][NUM_FEATURES:]
    network = weights | {"w0": of_features, "b0": weights["b0"] + context @ of_context}
    scale = base_square * lax.rsqrt(base_square + TINY)
    numbers = jnp.stack([jnp.sqrt(effective), scale, trust * jnp.sqrt(size + TINY)])
    constants = {"tiny": TINY, "least": LEAST_SPREAD, "bound": BOUND, "gain": gain}
    last, made = set_step.step(
        found, of_tensor, terms, tensor.param, inverse, numbers, network, view, **constants
    )
    return made.reshape(tensor.shape), last


def steps_and_history(
    weights: dict[str, Array],
    terms: Terms | Weighing,
    decay: Any,
    deltas: list[Array],
    weight: Float[Array, "K"],
    histories: tuple[History, ...],
    velocities: tuple[Any, ...],
    leaves: list[Array],
    round_index: Array,
    limits: tuple[float, float],
) -> tuple[list[Array], tuple[History, ...], tuple[Any, ...]]:
    """Each tensor's step [*S], history and velocity.

    Args:
      terms: the base, for all tensors or by the bank; decay: its velocity's.
      deltas: [K, N] of each tensor; leaves: the params, of rank 1 at least.
      limits: the set rule's GAIN and bound on a step.
    """
    share = weight / jnp.sum(weight)
    effective = 1.0 / jnp.sum(share * share)
    of_tensors = zip(leaves, deltas, histories, velocities, strict=True)
    banked = not isinstance(terms, Terms)
    tensors = [read(param, d, share, old, () if banked else v, decay) for param, d, old, v in of_tensors]
    counts = [t.param.size for t in tensors]
    sizes = [t.found.sums.clients / max(t.param.size, 1) for t in tensors]
    new = [t.history for t in tensors]
    shared = whole_model_of(counts, [t.found.sums.mean for t in tensors], sizes, new, round_index)
    if banked:
        bases, by = terms(tensors, velocities, effective, shared)
        networks = [bank.opened(weights, one) for one in by]
        moved = [jnp.stack(t.found.sums.momenta) for t in tensors]
    else:
        bases, networks = [terms] * len(tensors), [weights] * len(tensors)
        moved = [
            v if isinstance(v, tuple) else t.found.velocity.reshape(v.shape)
            for t, v in zip(tensors, velocities, strict=True)
        ]
    steps, kept = [], []
    for t, base, network in zip(tensors, bases, networks, strict=True):
        made, last = t.param.reshape(t.shape), t.param
        if t.param.size:
            made, last = step(network, t, base.stacked(), effective, shared, limits)
        steps.append(made)
        kept.append(t.history._replace(step=last))
    return steps, tuple(kept), tuple(moved)
