"""A tensor as rows of one length and the numbers of largest magnitude in each row."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from learned_aggregation.federated.compressors.base import Shape


def row_shapes(size: int, chunk: int) -> list[tuple[int, int]]:
    """(rows, length) of the whole chunks and then of the rest; nothing is padded. chunk 0: one row of all.

    Two blocks at most, so that a program does not grow with the tensor.
    """
    length = min(chunk or size, size)
    whole, rest = divmod(size, length)
    return [(whole, length), *([(1, rest)] if rest else [])]


def split(x: Shaped[Array, "..."], chunk: int) -> list[Shaped[Array, "rows length"]]:
    """The chunks of a tensor in row-major order, in blocks shaped as `row_shapes` says."""
    flat, start, blocks = x.reshape(-1), 0, []
    for rows, length in row_shapes(x.size, chunk):
        blocks.append(flat[start : start + rows * length].reshape(rows, length))
        start += rows * length
    return blocks


def join(blocks: list[Float[Array, "rows length"]], shape: Shape) -> Float[Array, "..."]:
    """The inverse of `split`."""
    return jnp.concatenate([block.reshape(-1) for block in blocks]).reshape(shape)


def share(fraction: float, length: int) -> int:
    """max(1, ceil(fraction*length)), the numbers that are kept of a row."""
    return max(1, math.ceil(fraction * length))


def index_width(size: int, chunk: int) -> int:
    """ceil(log2(length)), the bits of an index into a row; the shorter rest keeps the width of whole chunks."""
    return (min(chunk or size, size) - 1).bit_length()


def largest(x: Float[Array, "rows length"], k: int) -> tuple[Float[Array, "rows k"], Int[Array, "rows k"]]:
    """The k numbers of largest magnitude in each row and their indices; of equal ones the first come first."""
    _, indices = jax.lax.top_k(jnp.abs(x), k)
    return jnp.take_along_axis(x, indices, axis=1), indices


def place(
    values: Float[Array, "rows k"], indices: Int[Array, "rows k"], length: int
) -> Float[Array, "rows length"]:
    """Rows of zeros with `values` at `indices`."""
    zeros = jnp.zeros((values.shape[0], length), values.dtype)
    return jnp.put_along_axis(zeros, indices, values, axis=1, inplace=False)
