"""What `fedlagg-set` reads of one tensor: statistics over clients and time, equal for every order of clients."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from learned_aggregation.aggregators.learned.accumulators import ema, factored_dims, without

TINY = 1e-20
"""Under roots and in denominators: small against any square of a delta, with derivatives that stay finite."""
LARGEST = 1e15
"""Deltas are clipped here, where the squares of 1e8 of them still have a sum in float32."""
LEAST_SPREAD = 1e-12
"""Added to the spread that a mean is divided by."""
BOUND = 6.0
"""Features are clipped to +-BOUND times their root mean square over the tensor."""
MOMENTUM_DECAYS = (0.5, 0.9, 0.98)
SECOND_DECAY = 0.95
ALIGNMENT_DECAYS = (0.5, 0.9)
TIME_SCALES = (1.0, 3.0, 10.0, 30.0)
"""In rounds; saturated long before an episode ends, so that longer ones are nothing new."""


class Cohort(NamedTuple):
    """Statistics over the clients of a round, for one tensor of N parameters.

    mean [N]: weighted mean delta; spread [N]: weighted standard deviation; sign [N]: weighted mean of the signs;
    size []: weighted mean over clients of the mean square of their deltas; effective []: 1 / sum(share^2), which
    is K for equal weights.
    """

    mean: Array
    spread: Array
    sign: Array
    size: Array
    effective: Array


class History(NamedTuple):
    """What the server remembers of one tensor.

    momentum [3, N]; second [N], the running mean square of the mean delta; row, col: its factored form ([0] for
    rank < 2); step [N], the last step; alignment [2]: running means of the cosine of the mean delta and the last
    step, near 1 where steps are too short, below 0 where they are too long.
    """

    momentum: Array
    second: Array
    row: Array
    col: Array
    step: Array
    alignment: Array


class Sizes(NamedTuple):
    """Mean squares over a tensor: of the mean delta, the clients' deltas, momentum[1], the base's step, the params."""

    mean: Array
    clients: Array
    slow: Array
    base: Array
    param: Array


class Rows(NamedTuple):
    """The arrays [N] (momentum [3, N]) that a parameter's features are made of."""

    mean: Array
    spread: Array
    sign: Array
    param: Array
    base: Array
    momentum: Array
    second: Array
    factored: Array


def cohort_statistics(deltas: Float[Array, "K N"], weight: Float[Array, "K"]) -> Cohort:
    """Of the clients in proportion to their weights; one of weight 0 leaves no trace."""
    share = weight / jnp.sum(weight)
    here = jnp.clip(jnp.where(share[:, None] > 0, deltas, 0.0), -LARGEST, LARGEST)
    mean = share @ here
    spread = jnp.sqrt(share @ (here - mean) ** 2 + TINY)
    size = share @ jnp.mean(here * here, axis=1)
    return Cohort(mean, spread, share @ jnp.sign(here), size, 1.0 / jnp.sum(share * share))


def init_history(param: Array) -> History:
    dims = factored_dims(param.shape)
    row, col = (without(param.shape, dims[1]), without(param.shape, dims[0])) if dims else ((0,), (0,))
    momentum = jnp.zeros((len(MOMENTUM_DECAYS), param.size))
    zeros = jnp.zeros(param.size)
    return History(momentum, zeros, jnp.zeros(row), jnp.zeros(col), zeros, jnp.zeros(len(ALIGNMENT_DECAYS)))


def cosine(product: Array, x: Array, y: Array) -> Array:
    """From the sums over two tensors' product and squares."""
    return product * lax.rsqrt(x * y + TINY)


def remember(old: History, mean: Float[Array, "..."]) -> History:
    """The history after one more mean delta [*S]; `step` is still the last one."""
    flat, row, col = mean.reshape(-1), old.row, old.col
    if dims := factored_dims(mean.shape):
        square = mean * mean
        row = SECOND_DECAY * row + (1.0 - SECOND_DECAY) * jnp.mean(square, axis=dims[1])
        col = SECOND_DECAY * col + (1.0 - SECOND_DECAY) * jnp.mean(square, axis=dims[0])
    second = SECOND_DECAY * old.second + (1.0 - SECOND_DECAY) * flat * flat
    along = cosine(jnp.sum(flat * old.step), jnp.sum(flat * flat), jnp.sum(old.step * old.step))
    alignment = ema(jnp.array(ALIGNMENT_DECAYS), old.alignment, along)
    return History(ema(jnp.array(MOMENTUM_DECAYS), old.momentum, flat), second, row, col, old.step, alignment)


def factored_root(history: History, shape: tuple[int, ...]) -> Float[Array, "N"]:
    """Adafactor's 1 / sqrt(second moment) up to a constant; that of `second` itself for rank < 2."""
    dims = factored_dims(shape)
    if not dims:
        return lax.rsqrt(history.second + TINY)
    d1, d0 = dims
    row, col = jnp.expand_dims(history.row, d0), jnp.expand_dims(history.col, d1)
    return jnp.broadcast_to(lax.rsqrt(row + TINY) * lax.rsqrt(col + TINY), shape).reshape(-1)


def at_block(rows: Rows, offset: Any, size: int) -> Rows:
    """The rows of `size` parameters from `offset` on."""
    return Rows(*(lax.dynamic_slice_in_dim(x, offset, size, x.ndim - 1) for x in rows))


def raw_features(rows: Rows, effective: Float[Array, ""]) -> list[Float[Array, "N"]]:
    """The features of each parameter before they are normalised; the sign agreement comes last."""
    root = lax.rsqrt(rows.second + TINY)
    slow = rows.momentum[1]
    return [
        rows.mean,
        rows.base,
        *rows.momentum,
        rows.spread,
        rows.param,
        rows.mean * root,
        slow * root,
        rows.mean * rows.factored,
        slow * rows.factored,
        rows.mean * jnp.sqrt(effective) / (rows.spread + LEAST_SPREAD),
        rows.sign,
    ]


NUM_FEATURES = 10 + len(MOMENTUM_DECAYS)
MEAN, BASE, MOMENTA, PARAM, SLOW_ROOT = 0, 1, 2, 6, 8
"""Where these are among the features; the momenta from MOMENTA on."""


def inverse_scales(rows: Rows, effective: Float[Array, ""]) -> Float[Array, "F"]:
    """1 / root mean square of each feature over the tensor; 1 for the sign agreement, which has no unit."""
    return inverse_roots([jnp.mean(x * x) for x in raw_features(rows, effective)])


def inverse_roots(squares: list[Array]) -> Float[Array, "F"]:
    """`inverse_scales` from the mean squares."""
    return lax.rsqrt(jnp.stack(squares) + TINY).at[-1].set(1.0)


def features(rows: Rows, effective: Float[Array, ""], inverse: Float[Array, "F"]) -> Float[Array, "F N"]:
    """The features of each parameter, normalised and clipped."""
    return jnp.clip(jnp.stack(raw_features(rows, effective)) * inverse[:, None], -BOUND, BOUND)


def log_ratio(x: Array, y: Array) -> Array:
    """A quarter of the log of the ratio of two root mean squares, from their squares; in [-2, 2]."""
    return jnp.clip(0.5 * (jnp.log(x + TINY) - jnp.log(y + TINY)), -8.0, 8.0) / 4.0


def scalars(
    cohort: Cohort, history: History, base: Float[Array, "N"], param: Float[Array, "N"]
) -> Float[Array, "8"]:
    """What is equal for all parameters of a tensor.

    The mean delta's size against the clients', the momentum's and the parameters'; the base's against the
    clients'; the number of clients; whether the tensor is factored; the alignments.
    """
    of_slow, of_base = jnp.mean(history.momentum[1] ** 2), jnp.mean(base * base)
    sizes = Sizes(jnp.mean(cohort.mean**2), cohort.size, of_slow, of_base, jnp.mean(param * param))
    return scalars_of(sizes, cohort.effective, history)


def scalars_of(s: Sizes, effective: Float[Array, ""], history: History) -> Float[Array, "8"]:
    """`scalars` from the mean squares."""
    parts = [
        log_ratio(s.mean, s.clients),
        log_ratio(s.mean, s.slow),
        log_ratio(s.base, s.clients),
        log_ratio(s.mean, s.param),
        jnp.log(effective) / 4.0,
        jnp.float32(history.row.size > 0),
    ]
    return jnp.concatenate([jnp.stack(parts), history.alignment])


def whole_model(
    cohorts: list[Cohort], histories: list[History], round_index: Int[Array, ""]
) -> Float[Array, "7"]:
    """What is equal for all tensors: alignments (by size), the clients' agreement, the time in the first rounds."""
    sums = [jnp.sum(c.mean**2) for c in cohorts]
    return whole_model_of(
        [c.mean.size for c in cohorts], sums, [c.size for c in cohorts], histories, round_index
    )


def whole_model_of(
    counts: list[int], sums: list[Array], sizes: list[Array], histories: list[History], round_index: Array
) -> Float[Array, "7"]:
    """`whole_model` from the tensors' numbers of parameters, sums of squares of the mean delta, and sizes."""
    total = float(sum(counts))
    alignment = sum(h.alignment * (n / total) for h, n in zip(histories, counts, strict=True))
    mean = sum(sums) / total
    of_clients = sum(size * (n / total) for size, n in zip(sizes, counts, strict=True) if n)
    time = jnp.tanh(round_index.astype(jnp.float32) / jnp.array(TIME_SCALES) - 1.0)
    agreement = log_ratio(jnp.asarray(mean), jnp.asarray(of_clients))
    return jnp.concatenate([jnp.asarray(alignment), agreement[None], time])


NUM_SCALARS = 8 + 3 + len(TIME_SCALES)
