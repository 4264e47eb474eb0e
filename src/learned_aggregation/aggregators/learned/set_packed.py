"""`fedlagg-set` on a small model: all tensors side by side, as one row of N parameters.

It computes what `set_rule` computes tensor by tensor, up to rounding. A model of a few thousand parameters spends its
time, and its compilation, on the number of operations and not on their size; packed, few of them are repeated for each
of the T tensors. What is one number for each tensor goes through `members`, a matrix [T, N] of zeros and ones:

    mean squares over each tensor                     rows^2 members' / sizes            [rows, T]
    a tensor's number at each of its parameters       numbers members                    [rows, N]
    the tensors' biases in the network's first layer  [w0; biases]' [features; members]  [hidden, N]
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from learned_aggregation.aggregators.learned import bank
from learned_aggregation.aggregators.learned.accumulators import ema, factored_dims
from learned_aggregation.aggregators.learned.base import Base
from learned_aggregation.aggregators.learned.set_features import (
    ALIGNMENT_DECAYS,
    BASE,
    BOUND,
    LARGEST,
    MEAN,
    MOMENTA,
    MOMENTUM_DECAYS,
    NUM_FEATURES,
    PARAM,
    SECOND_DECAY,
    SLOW_ROOT,
    TIME_SCALES,
    TINY,
    History,
    Rows,
    factored_root,
    log_ratio,
    raw_features,
)

MOST = 2**14
"""Parameters of the largest model that is packed; from about there on the operations' size counts."""
MOST_MEMBERS = 2**18
"""Numbers of the largest `members`."""


class Layout(NamedTuple):
    """Where the tensors lie in the row: their shapes, the places where all but the first begin, and `members`."""

    shapes: tuple[tuple[int, ...], ...]
    starts: tuple[int, ...]
    members: Float[np.ndarray, "T N"]

    @property
    def sizes(self) -> Float[np.ndarray, "T"]:
        return self.members.sum(axis=1)

    def join(self, tensors: Iterable[Array], leading: int = 0) -> Float[Array, "*leading N"]:
        """Tensors [*leading, *S] side by side."""
        return jnp.concatenate([x.reshape(*x.shape[:leading], -1) for x in tensors], axis=leading)

    def split(self, row: Float[Array, "*leading N"]) -> list[Float[Array, "*leading n"]]:
        return jnp.split(row, self.starts, axis=-1)

    def shaped(self, row: Float[Array, "N"]) -> list[Float[Array, "*S"]]:
        return [x.reshape(shape) for x, shape in zip(self.split(row), self.shapes, strict=True)]

    def sums(self, rows: Float[Array, "R N"]) -> Float[Array, "R T"]:
        """Over each tensor."""
        return jnp.matmul(rows, self.members.T, precision="highest")

    def spread(self, numbers: Float[Array, "R T"]) -> Float[Array, "R N"]:
        """Each tensor's numbers at all of its parameters."""
        return jnp.matmul(numbers, self.members, precision="highest")


def layout_of(tensors: Sequence[Array]) -> Layout:
    sizes = [tensor.size for tensor in tensors]
    members = np.repeat(np.eye(len(sizes), dtype=np.float32), sizes, axis=1)
    return Layout(tuple(t.shape for t in tensors), tuple(np.cumsum(sizes)[:-1].tolist()), members)


def is_small(tensors: Sequence[Array]) -> bool:
    """Whether a model of such tensors is packed: small, and none of them empty."""
    sizes = [tensor.size for tensor in tensors]
    total = sum(sizes)
    return total > 0 and min(sizes) > 0 and total <= MOST and total * len(sizes) <= MOST_MEMBERS


class Known(NamedTuple):
    """What a base may read before its step is known.

    features [F] rows [N], the base's not there yet; sums [F, T] of their squares, last, clients [T]: those of the last
    step and the clients' deltas. scalars: the base's mean square [T] -> the numbers [8, T] that the network reads of
    a tensor; shared [7]: of the whole model. velocity: what the base remembers.
    """

    layout: Layout
    features: list[Array]
    sums: Array
    last: Array
    clients: Array
    scalars: Callable[[Array], Array]
    shared: Array
    velocity: tuple[Any, ...]


class BaseStep(NamedTuple):
    """The base's step, the new velocities, and how far gate and correction are open [T]; None for wholly."""

    step: Float[Array, "N"]
    velocity: tuple[Any, ...]
    open: Float[Array, "T"] | None = None


PackedBase = Callable[[Known], BaseStep]


def packed_steps(
    weights: dict[str, Array],
    base: PackedBase,
    limits: tuple[float, float],
    deltas: Sequence[Float[Array, "K n"]],
    weight: Float[Array, "K"],
    histories: Sequence[History],
    velocity: tuple[Any, ...],
    round_index: Int[Array, ""],
    params: Sequence[Array],
) -> tuple[list[Array], tuple[History, ...], tuple[Any, ...]]:
    """The steps [*S] of tensors [*S], their new histories and velocities.

    Args:
      base: `by_rule` or `by_bank`.
      limits: `set_rule`'s GAIN and bound on a step.
    """
    (gain, trust), layout = limits, layout_of(params)
    share = weight / jnp.sum(weight)
    effective = 1.0 / jnp.sum(share * share)
    here = jnp.clip(jnp.where(share[:, None] > 0, layout.join(deltas, 1), 0.0), -LARGEST, LARGEST)
    mean, square, sign = share @ here, share @ (here * here), share @ jnp.sign(here)
    spread = jnp.sqrt(share @ (here - mean) ** 2 + TINY)
    last, old = layout.join(h.step for h in histories), histories
    momentum = _momenta(layout.join((h.momentum for h in old), 1), mean)
    second = SECOND_DECAY * layout.join(h.second for h in old) + (1.0 - SECOND_DECAY) * mean * mean
    factors = [_factors(h, m) for h, m in zip(old, layout.shaped(mean), strict=True)]
    new = [
        History(m, s, row, col, h.step, h.alignment)
        for h, m, s, (row, col) in zip(
            old, layout.split(momentum), layout.split(second), factors, strict=True
        )
    ]
    factored = layout.join(factored_root(h, shape) for h, shape in zip(new, layout.shapes, strict=True))
    param = layout.join(params)

    raw = raw_features(Rows(mean, spread, sign, param, mean, momentum, second, factored), effective)
    known = jnp.stack(raw)
    sums = layout.sums(jnp.concatenate([known * known, jnp.stack([square, mean * last, last * last])]))
    (of_clients, along, of_last), of_features = sums[NUM_FEATURES:], sums[:NUM_FEATURES] / layout.sizes
    cosine = along * lax.rsqrt(sums[MEAN] * of_last + TINY)
    alignment = ema(jnp.array(ALIGNMENT_DECAYS), jnp.stack([h.alignment for h in old], axis=1), cosine)

    of_deltas = of_clients / layout.sizes
    of_mean = of_features[MEAN]

    def scalars(of_base: Float[Array, "T"]) -> Float[Array, "8 T"]:
        parts = [
            log_ratio(of_mean, of_deltas),
            log_ratio(of_mean, of_features[MOMENTA + 1]),
            log_ratio(of_base, of_deltas),
            log_ratio(of_mean, of_features[PARAM]),
            jnp.broadcast_to(jnp.log(effective) / 4.0, cosine.shape),
            np.array([h.row.size > 0 for h in old], np.float32),
            *alignment,
        ]
        return jnp.stack(parts)

    part = layout.sizes / layout.sizes.sum()
    agreement = log_ratio(part @ of_mean, part @ of_deltas)
    time = jnp.tanh(round_index.astype(jnp.float32) / jnp.array(TIME_SCALES) - 1.0)
    shared = jnp.concatenate([alignment @ part, agreement[None], time])

    step, velocity, opened = base(Known(layout, raw, sums, of_last, of_clients, scalars, shared, velocity))
    of_base = layout.sums((step * step)[None])[0] / layout.sizes
    raw[BASE] = step
    inverse = lax.rsqrt(of_features.at[BASE].set(of_base) + TINY).at[-1].set(1.0)
    rms = of_base * lax.rsqrt(of_base + TINY)
    x = jnp.clip(jnp.stack(raw) * layout.spread(inverse), -BOUND, BOUND)
    numbers = scalars(of_base)
    of_x, of_scalars, of_shared = jnp.split(weights["w0"], [NUM_FEATURES, NUM_FEATURES + len(numbers)])
    biases = of_scalars.T @ numbers + (weights["b0"] + shared @ of_shared)[:, None]
    hidden = jax.nn.relu(jnp.concatenate([of_x.T, biases], axis=1) @ jnp.concatenate([x, layout.members]))
    hidden = jax.nn.relu(weights["w1"].T @ hidden + weights["b1"][:, None])
    outputs = weights["w2"].T @ hidden + weights["b2"][:, None]
    gate, correction = outputs if opened is None else outputs * layout.spread(opened[None])
    step = step * jnp.exp(gain * jnp.tanh(gate / gain)) - layout.spread(rms[None])[0] * jnp.tanh(correction)
    of_step = layout.sums((step * step)[None])[0] / layout.sizes
    shorter = jnp.minimum(1.0, trust * jnp.sqrt(of_deltas + TINY) * lax.rsqrt(of_step + TINY))
    step = step * layout.spread(shorter[None])[0]
    moved = [
        h._replace(step=s, alignment=a) for h, s, a in zip(new, layout.split(step), alignment.T, strict=True)
    ]
    return layout.shaped(step), tuple(moved), velocity


def by_rule(base: Base) -> PackedBase:
    """A base of `make_base`: every one works parameter by parameter."""

    def step(known: Known):
        mean = known.features[MEAN]
        if not jax.tree.leaves(known.velocity):
            return BaseStep(base.step(mean, ())[0], known.velocity)
        made, new = base.step(mean, known.layout.join(known.velocity))
        return BaseStep(made, tuple(known.layout.shaped(new)))

    return step


def by_bank(weights: dict[str, Array], rate: Any) -> PackedBase:
    """The bank of `bank`, its weights spread over each tensor's parameters."""

    def step(known: Known):
        sums, counts = known.sums, [int(n) for n in known.layout.sizes]
        momenta = sums[MOMENTA : MOMENTA + len(MOMENTUM_DECAYS)].T
        squares = bank.Squares(
            jnp.stack(known.velocity), momenta, sums[MEAN], known.last, known.clients, sums[SLOW_ROOT]
        )
        scalars = known.scalars(sums[MEAN] / known.layout.sizes).T
        weighed = bank.weigh(weights, squares, counts, scalars, known.shared, rate)
        of_tensors = jnp.stack([weighed.mean, *weighed.momenta.T, weighed.slow_root])
        terms = (
            known.features[i] for i in (MEAN, *range(MOMENTA, MOMENTA + len(MOMENTUM_DECAYS)), SLOW_ROOT)
        )
        made = jnp.sum(known.layout.spread(of_tensors) * jnp.stack(list(terms)), axis=0)
        return BaseStep(made, tuple(momenta), weighed.open)

    return step


def _momenta(old: Float[Array, "D N"], mean: Float[Array, "N"]) -> Float[Array, "D N"]:
    """`ema` row by row: the reverse of a mean that is spread over the rows is their sum, which is slow on a CPU."""
    decays = np.array(MOMENTUM_DECAYS, np.float32)
    return jnp.stack([d * row + (np.float32(1.0) - d) * mean for d, row in zip(decays, old, strict=True)])


def _factors(old: History, mean: Float[Array, "*S"]) -> tuple[Array, Array]:
    """The new row and col."""
    dims = factored_dims(mean.shape)
    if not dims:
        return old.row, old.col
    d1, d0 = dims
    row, col = (jnp.mean(mean * mean, axis=dim) for dim in (d0, d1))
    return (
        SECOND_DECAY * old.row + (1.0 - SECOND_DECAY) * row,
        SECOND_DECAY * old.col + (1.0 - SECOND_DECAY) * col,
    )
