"""Momentum, second-moment and Adafactor statistics of the mean delta, for one tensor.

Every accumulator has a leading axis over its decays (D), then the tensor's own axes.
Source: Metz et al., "Practical tradeoffs between memory, compute, and performance in learned
optimizers", 2022, arXiv:2203.11860; Shazeer & Stern, Adafactor, 2018, arXiv:1804.04235.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

MOMENTUM_DECAYS = (0.9, 0.99, 0.999)
RMS_DECAYS = (0.999,)
ADAFACTOR_DECAYS = (0.9, 0.99, 0.999)


class Decays(NamedTuple):
    momentum: Float[Array, "Dm"]
    rms: Float[Array, "Dr"]
    adafactor: Float[Array, "Da"]


class Accumulators(NamedTuple):
    """Statistics of one tensor of shape S.

    momentum [Dm, *S], rms [Dr, *S]; for rank >= 2: row [Da, S without d0], col [Da, S without d1], diag
    [Da, 0]; for rank < 2: row and col [Da, 0], diag [Da, *S]. (d1, d0) are the two largest dimensions.
    """

    momentum: Array
    rms: Array
    row: Array
    col: Array
    diag: Array


class Factored(NamedTuple):
    """The tensor's Adafactor view: fac_g [Da, *S] and, for rank >= 2, the factors broadcast to [Da, ...].

    row_factor has size 1 along d0 and col_factor size 1 along d1; both are None for rank < 2.
    """

    fac_g: Array
    row_factor: Array | None
    col_factor: Array | None


def decay_values(offsets: Array, initial: tuple[float, ...]) -> Array:
    """decay = 1 - exp(10 * (log(1 - initial)/10 + offset)): zero offset gives `initial`."""
    start = jnp.log(1.0 - jnp.asarray(initial, jnp.float32)) / 10.0
    return 1.0 - jnp.exp(10.0 * (start + offsets))


def factored_dims(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """(d1, d0), the second largest and the largest dimension, or None for rank < 2."""
    if len(shape) < 2:
        return None
    order = np.argsort(shape)
    return int(order[-2]), int(order[-1])


def without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return shape[:axis] + shape[axis + 1 :]


def init_accumulators(shape: tuple[int, ...], decays: tuple[int, int, int]) -> Accumulators:
    """Zeros for a tensor of `shape`; `decays` are the numbers (Dm, Dr, Da)."""
    dims = factored_dims(shape)
    row, col, diag = (
        ((0,), (0,), shape) if dims is None else (without(shape, dims[1]), without(shape, dims[0]), (0,))
    )
    m, r, a = decays
    return Accumulators(
        jnp.zeros((m, *shape)),
        jnp.zeros((r, *shape)),
        jnp.zeros((a, *row)),
        jnp.zeros((a, *col)),
        jnp.zeros((a, *diag)),
    )


def ema(decay: Array, old: Array, new: Array) -> Array:
    decay = decay.reshape((-1,) + (1,) * new.ndim)
    return decay * old + (1.0 - decay) * new


def safe_rsqrt(x: Array) -> Array:
    return lax.rsqrt(jnp.maximum(x, 1e-9))


def update_vectors(
    old: Accumulators, g2: Array, decays: Decays
) -> tuple[Array, Array, Array, Array | None, Array | None]:
    """The Adafactor statistics after one more g^2, and the factors they give.

    row <- c row + (1-c) mean(g2, d0), col <- c col + (1-c) mean(g2, d1), or diag <- c diag + (1-c) g2;
    row_factor = rsqrt(row / (mean(row, d1) + 1e-9)), col_factor = rsqrt(col).

    Returns:
      (row, col, diag, row_factor, col_factor); the factors without the reduced axis, None for rank < 2.
    """
    decay = jnp.clip(decays.adafactor, 0.0, 1.0)
    dims = factored_dims(g2.shape)
    if dims is None:
        return old.row, old.col, ema(decay, old.diag, g2), None, None
    d1, d0 = dims
    row = ema(decay, old.row, jnp.mean(g2, axis=d0))
    col = ema(decay, old.col, jnp.mean(g2, axis=d1))
    reduced_d1 = d1 - 1 if d1 > d0 else d1
    row_mean = jnp.mean(row, axis=reduced_d1 + 1, keepdims=True)
    return row, col, old.diag, safe_rsqrt(row / (row_mean + 1e-9)), safe_rsqrt(col)


def update_accumulators(old: Accumulators, g: Array, decays: Decays) -> tuple[Accumulators, Factored]:
    """One step of every accumulator of a tensor, driven by its mean delta g [*S].

    momentum <- d m + (1-d) g;  rms <- c v + (1-c) g^2 with c = clip(d, 0, 1);  the factored statistics
    use g^2 + 1e-30.
    """
    momentum = ema(decays.momentum, old.momentum, g)
    rms = ema(jnp.clip(decays.rms, 0.0, 1.0), old.rms, g * g)
    row, col, diag, row_factor, col_factor = update_vectors(old, g * g + 1e-30, decays)
    dims = factored_dims(g.shape)
    if dims is None or row_factor is None or col_factor is None:
        factored = Factored(g * safe_rsqrt(diag + 1e-9), None, None)
    else:
        d1, d0 = dims
        row_factor = jnp.expand_dims(row_factor, d0 + 1)
        col_factor = jnp.expand_dims(col_factor, d1 + 1)
        factored = Factored(g * row_factor * col_factor, row_factor, col_factor)
    return Accumulators(momentum, rms, row, col, diag), factored
