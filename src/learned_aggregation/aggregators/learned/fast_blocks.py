"""A tensor as five dimensions around its two factored ones, and the contiguous blocks it is walked in."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from learned_aggregation.aggregators.learned.accumulators import factored_dims

View = tuple[int, int, int, int, int]
"""(A, p, B, q, C): p and q are the factored dimensions, A, B and C the products of those around them.

A vector of n is (1, 1, 1, n, 1).
"""


class Block(NamedTuple):
    """`size` consecutive parameters from `offset` on: a box of `shape` at `start` in the view."""

    offset: Any
    size: int
    start: tuple[Any, ...]
    shape: View


def view_of(shape: tuple[int, ...]) -> View:
    dims = factored_dims(shape)
    if dims is None:
        return (1, 1, 1, math.prod(shape), 1)
    p, q = sorted(dims)
    return (math.prod(shape[:p]), shape[p], math.prod(shape[p + 1 : q]), shape[q], math.prod(shape[q + 1 :]))


def view_without(shape: tuple[int, ...], axis: int) -> View:
    """The view of a statistic averaged over `axis`, one of the factored dimensions: 1 in its place."""
    dims = factored_dims(shape)
    a, p, b, q, c = view_of(shape)
    return (a, 1, b, q, c) if dims and axis == min(dims) else (a, p, b, 1, c)


def walk(view: View, limit: int | None, body: Callable[[Any, Block], Any], carry: Any) -> Any:
    """carry <- body(carry, block) over the view's blocks; a single one when limit is None.

    A block is a run along one dimension, whole in those after it and single in those before: the longest of
    at most `limit` parameters. Equal blocks are one loop; the shorter rests of the runs are a second one.
    """
    for starts, shape in loops(view, limit):
        offsets = starts @ np.array([math.prod(view[d + 1 :]) for d in range(5)])

        def step(carry, place, shape=shape):
            offset, *start = place
            return body(carry, Block(offset, math.prod(shape), tuple(start), shape)), None

        # Unsigned, so that no negative index has to be wrapped inside the loops.
        places = np.column_stack([offsets, starts]).astype(np.uint32)
        if len(places) == 1:
            carry, _ = step(carry, places[0])
        else:
            carry, _ = lax.scan(lambda carry, place: step(carry, tuple(place)), carry, places)
    return carry


def loops(view: View, limit: int | None) -> Iterator[tuple[np.ndarray, View]]:
    """(where the blocks start [blocks, 5], their shape) of each loop."""
    if limit is None or math.prod(view) <= limit:
        yield np.zeros((1, 5), int), view
        return
    axis = next(d for d in range(5) if math.prod(view[d + 1 :]) <= limit)
    length = _run_length(view[axis], limit // math.prod(view[axis + 1 :]))
    whole = view[axis] // length * length
    for first, last, run in ((0, whole, length), (whole, view[axis], view[axis] - whole)):
        if run:
            grid = np.indices((*view[:axis], (last - first) // run)).reshape(axis + 1, -1).T
            starts = np.zeros((len(grid), 5), int)
            starts[:, : axis + 1] = grid
            starts[:, axis] = first + run * starts[:, axis]
            yield starts, cast(View, (*(1,) * axis, run, *view[axis + 1 :]))


def _run_length(size: int, longest: int) -> int:
    """A divisor of size between longest/2 and longest, which leaves no rest, or else `longest`."""
    longest = min(size, longest)
    return next((n for n in range(longest, longest // 2, -1) if size % n == 0), longest)


def cut(array: Array, block: Block) -> Array:
    """The block's part of an array [F, view or 1 where constant]."""
    sizes = [n if full > 1 else 1 for n, full in zip(block.shape, array.shape[1:], strict=True)]
    start = [s if full > 1 else np.uint32(0) for s, full in zip(block.start, array.shape[1:], strict=True)]
    return lax.dynamic_slice(array, (np.uint32(0), *start), (array.shape[0], *sizes))


def outer_sum(
    along_p: Float[Array, "F A p B 1 C"], along_q: Float[Array, "F A 1 B q C"]
) -> Float[Array, "F N"]:
    """along_p + along_q, flat: [along_p, 1] [1; along_q]."""
    if _is_interleaved(along_p):
        return _flat(along_p + along_q)
    return _matrix_product((along_p, jnp.ones_like(along_p)), (jnp.ones_like(along_q), along_q))


def outer_product(
    along_p: Float[Array, "F A p B 1 C"], along_q: Float[Array, "F A 1 B q C"]
) -> Float[Array, "F N"]:
    """along_p * along_q, flat: [along_p, 0] [along_q; 0]."""
    if _is_interleaved(along_p):
        return _flat(along_p * along_q)
    return _matrix_product((along_p, jnp.zeros_like(along_p)), (along_q, jnp.zeros_like(along_q)))


def _is_interleaved(along_p: Array) -> bool:
    return along_p.shape[3] * along_p.shape[5] > 1


def _flat(array: Array) -> Array:
    return array.reshape(array.shape[0], -1)


def _matrix_product(left: tuple[Array, Array], right: tuple[Array, Array]) -> Float[Array, "F N"]:
    """sum_k left_k right_k as a matrix product for each A, which is exact with terms of 0 or 1.

    XLA's CPU backend does not vectorise a broadcast that is used flat or whose last dimension is short; it
    was 5 to 20 times slower than this.
    """
    f, a, p = left[0].shape[:3]
    q = right[0].shape[4]
    stacked_left = jnp.stack([x.reshape(f, a, p) for x in left], axis=3)
    stacked_right = jnp.stack([x.reshape(f, a, q) for x in right], axis=2)
    return _flat(stacked_left @ stacked_right)
