"""How well masks fit: J (region), F (boundary) and DAVIS's mean, recall and decay over a sequence."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

BOUND = 0.008
"""Boundaries match within this share of the frame's diagonal, rounded up to whole pixels."""


def jaccard(truth: Bool[Array, "*n H W"], found: Bool[Array, "*n H W"]) -> Float[Array, "*n"]:
    """J: the intersection over the union; 1 where both are empty.

    Example:
      >>> import jax.numpy as jnp
      >>> float(jaccard(jnp.array([[True, True]]), jnp.array([[True, False]])))
      0.5
    """
    both = jnp.sum(truth & found, (-2, -1))
    either = jnp.sum(truth | found, (-2, -1))
    return jnp.where(either == 0, 1.0, both / jnp.maximum(either, 1))


def boundary(mask: Bool[Array, "*n H W"]) -> Bool[Array, "*n H W"]:
    """Pixels that differ from the one to the right, the one below, or the one between; in the last row and column only
    from the one beside them, and never in the last corner."""
    pad = [(0, 0)] * (mask.ndim - 2)
    right = jnp.pad(mask[..., :, 1:], [*pad, (0, 0), (0, 1)])
    low = jnp.pad(mask[..., 1:, :], [*pad, (0, 1), (0, 0)])
    corner = jnp.pad(mask[..., 1:, 1:], [*pad, (0, 1), (0, 1)])
    edge = (mask ^ right) | (mask ^ low) | (mask ^ corner)
    edge = edge.at[..., -1, :].set(mask[..., -1, :] ^ right[..., -1, :])
    edge = edge.at[..., :, -1].set(mask[..., :, -1] ^ low[..., :, -1])
    return edge.at[..., -1, -1].set(False)


def tolerance(height: int, width: int, bound: float = BOUND) -> int:
    """In pixels: ceil(bound * diagonal); a bound of 1 and more is pixels already.

    Example:
      >>> tolerance(480, 854), tolerance(48, 48), tolerance(48, 48, 2)
      (8, 1, 2)
    """
    return math.ceil(bound if bound >= 1 else bound * math.hypot(height, width))


def boundary_f(
    truth: Bool[Array, "*n H W"], found: Bool[Array, "*n H W"], bound: float = BOUND
) -> Float[Array, "*n"]:
    """F: the harmonic mean of the shares of either boundary that lie within the tolerance of the other one.

    Both empty: 1. One of them empty: 0.
    """
    pixels = tolerance(truth.shape[-2], truth.shape[-1], bound)
    true_edge, found_edge = boundary(truth), boundary(found)
    precision = _matched(found_edge, true_edge, pixels)
    recall = _matched(true_edge, found_edge, pixels)
    score = jnp.where(
        precision + recall > 0, 2 * precision * recall / jnp.maximum(precision + recall, 1e-12), 0.0
    )
    none_true, none_found = (~jnp.any(edge, (-2, -1)) for edge in (true_edge, found_edge))
    return jnp.where(none_true | none_found, (none_true & none_found).astype(score.dtype), score)


def _matched(edge: Array, other: Array, pixels: int) -> Array:
    """The share of `edge` within so many pixels of `other`."""
    near = edge & _dilated(other, pixels)
    return jnp.sum(near, (-2, -1)) / jnp.maximum(jnp.sum(edge, (-2, -1)), 1)


def _dilated(mask: Array, pixels: int) -> Array:
    """All pixels within a Euclidean distance of the mask: a disk is so many rows, each a maximum over a window."""
    height, width = mask.shape[-2:]
    flat = mask.reshape(-1, height, width).astype(jnp.int8)
    found = jnp.zeros_like(flat)
    for row in range(-pixels, pixels + 1):
        reach = math.isqrt(pixels**2 - row**2)
        wide = jax.lax.reduce_window(
            flat, jnp.int8(0), jax.lax.max, (1, 1, 2 * reach + 1), (1, 1, 1), ((0, 0), (0, 0), (reach, reach))
        )
        moved = jnp.pad(wide, ((0, 0), (pixels, pixels), (0, 0)))[:, pixels + row : pixels + row + height]
        found = jnp.maximum(found, moved)
    return found.reshape(mask.shape) > 0


def scores(
    truth: Int[Array, "T H W"], found: Int[Array, "T H W"], labels: int
) -> tuple[Float[Array, "objects T"], Float[Array, "objects T"]]:
    """(J, F) of every object 1 .. labels - 1 in every frame."""
    objects = jnp.arange(1, labels)[:, None, None, None]
    true_masks, found_masks = truth[None] == objects, found[None] == objects
    return jaccard(true_masks, found_masks), boundary_f(true_masks, found_masks)


class Statistics(NamedTuple):
    """Of one measure over a sequence's frames.

    mean. recall: the share of frames above .5. decay: the first quarter's mean less the last quarter's.
    """

    mean: float
    recall: float
    decay: float


def statistics(values: np.ndarray) -> Statistics:
    """DAVIS's statistics of one object's values, [frames]: those between the first frame and the last.

    The quarters share their ends, as the public evaluation (davis2017) cuts them.

    Example:
      >>> statistics(np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]))
      Statistics(mean=0.5, recall=0.4444444444444444, decay=0.6)
    """
    values = np.asarray(values, np.float64)
    ends = np.round(np.linspace(1, len(values), 5) + 1e-10).astype(int) - 1
    first, last = (values[ends[i] : ends[i + 1] + 1].mean() for i in (0, 3))
    return Statistics(float(values.mean()), float((values > 0.5).mean()), float(round(first - last, 12)))


def judged_frames(frames: int) -> slice:
    """The frames that count: all but the first, which is given, and the last, as davis2017 leaves both out."""
    return slice(1, frames - 1)
