"""`sparseloco`: the largest numbers of each chunk, two bits for each of them."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_aggregation.federated.compressors.base import Field, TensorCode, check_whole, per_tensor
from learned_aggregation.federated.compressors.chunks import (
    index_width,
    join,
    largest,
    place,
    row_shapes,
    split,
)
from learned_aggregation.types import Compressor

LEVEL_BITS = 16
VALUE_BITS = 2


def sparseloco(*, chunk: int = 4096, k: int = 64) -> Compressor:
    """Top-k within chunks, a sign and one bit of magnitude for what is kept: 1.56 % of the numbers, 14 bits each.

    Of the k kept magnitudes of a chunk those above their mean are `high`, the others `low`; C(x) has the mean of
    the low or of the high ones there, with the sign of x, and 0 elsewhere. The two means are the chunk's scale, two
    bfloat16 numbers. (What the two bits mean is our convention.) C(x) is a projection but for bfloat16's rounding, so
    it contracts.

    The last chunk of a tensor may be shorter, m numbers: it keeps ceil(k m / chunk).

    Bits: k (2 + ceil(log2(min(chunk, n)))) + 32 for a chunk: k (2 + 12) + 32 = 928 with the defaults, 0.23 a number.

    Args:
      chunk: numbers of a chunk, in row-major order.
      k: what is kept of a chunk.
    Raises:
      UserError: chunk below 1, k outside 1 to chunk.
    Example:
      >>> import jax, jax.numpy as jnp
      >>> compressor, delta = sparseloco(chunk=4, k=2), jnp.array([1.0, -2.0, 0.5, 4.0])
      >>> message, _ = compressor.encode(delta, compressor.init(delta), jax.random.key(0))
      >>> compressor.decode(message).tolist(), compressor.bits(delta)
      ([0.0, -2.0, 0.0, 4.0], 40.0)

    References:
      Sarfi et al., "Communication Efficient LLM Pre-training with SparseLoCo", 2025, arXiv:2508.15706; its error
      feedback is `error_feedback="ef14"` with a `feedback_decay` below 1.
    """
    check_whole("sparseloco", "chunk", chunk, 1)
    check_whole("sparseloco", "k", k, 1, chunk)

    def encode_rows(x: Float[Array, "rows length"], width: int):
        values, indices = largest(x, -(-k * x.shape[1] // chunk))
        size = jnp.abs(values)
        top = jnp.max(size, axis=1, keepdims=True)
        unit = size / jnp.where(top == 0.0, 1.0, top)
        high = unit > jnp.mean(unit, axis=1, keepdims=True)
        means = jnp.concatenate([_mean_where(~high, unit), _mean_where(high, unit)], axis=1) * top
        code = (values < 0).astype(jnp.uint8) << 1 | high.astype(jnp.uint8)
        return Field(_to_codes(means), LEVEL_BITS), Field(code, VALUE_BITS), Field(indices, width)

    def encode(x, state, noise):
        width = index_width(x.size, chunk)
        return [encode_rows(block, width) for block in split(x, chunk)], state

    def decode_rows(sent: tuple[Field, Field, Field], length: int) -> Float[Array, "rows length"]:
        means, code, indices = sent
        low, high = jnp.split(_from_codes(means.values), 2, axis=1)
        size = jnp.where(code.values & 1 == 1, high, low)
        return place(jnp.where(code.values >> 1 == 1, -size, size), indices.values, length)

    def decode(sent, shape, noise):
        shapes = row_shapes(math.prod(shape), chunk)
        blocks = [decode_rows(block, length) for block, (_, length) in zip(sent, shapes, strict=True)]
        return join(blocks, shape)

    return per_tensor(TensorCode(encode, decode))


def _mean_where(chosen, x: Float[Array, "rows k"]) -> Float[Array, "rows 1"]:
    """The mean of what is chosen of each row, 0 where nothing is."""
    count = jnp.sum(chosen, axis=1, keepdims=True)
    return jnp.sum(jnp.where(chosen, x, 0.0), axis=1, keepdims=True) / jnp.maximum(count, 1)


def _to_codes(x: Float[Array, "..."]) -> Array:
    return jax.lax.bitcast_convert_type(x.astype(jnp.bfloat16), jnp.uint16)


def _from_codes(codes: Array) -> Float[Array, "..."]:
    return jax.lax.bitcast_convert_type(codes, jnp.bfloat16).astype(jnp.float32)
