"""`topk`: the largest numbers and where they are."""

import math

from learned_aggregation.federated.compressors.base import (
    Field,
    TensorCode,
    check_fraction,
    check_whole,
    per_tensor,
)
from learned_aggregation.federated.compressors.chunks import (
    index_width,
    join,
    largest,
    place,
    row_shapes,
    share,
    split,
)
from learned_aggregation.types import Compressor


def topk(*, fraction: float = 1 / 64, chunk: int = 0) -> Compressor:
    """C(x) = x at its k numbers of largest magnitude and 0 elsewhere, k = max(1, ceil(fraction*n)).

    |x - C(x)|^2 <= (1 - k/n) |x|^2. Of equal magnitudes the first ones are kept.

    Bits: k (32 + ceil(log2 n)) for a tensor of n numbers. With chunks of c numbers k is counted in each of them, the
    shorter last one included, and an index takes ceil(log2(min(c, n))) bits.

    Args:
      fraction: what to keep of each tensor or chunk, in (0, 1]; static, it sets shapes.
      chunk: numbers of a chunk, in row-major order; 0 for the whole tensor.
    Raises:
      UserError: fraction outside (0, 1], chunk below 0.
    Example:
      >>> import jax, jax.numpy as jnp
      >>> compressor, delta = topk(fraction=0.5), jnp.array([1.0, -2.0, 0.5, 4.0])
      >>> message, _ = compressor.encode(delta, compressor.init(delta), jax.random.key(0))
      >>> compressor.decode(message).tolist(), compressor.bits(delta)
      ([0.0, -2.0, 0.0, 4.0], 68.0)

    References:
      Stich et al., "Sparsified SGD with Memory", NeurIPS 2018, arXiv:1809.07599, Section 2 (top_k).
    """
    check_fraction("topk", "fraction", fraction)
    check_whole("topk", "chunk", chunk, 0)

    def encode(x, state, noise):
        width = index_width(x.size, chunk)
        kept = [largest(block, share(fraction, block.shape[1])) for block in split(x, chunk)]
        return [(Field(values, 32), Field(indices, width)) for values, indices in kept], state

    def decode(sent, shape, noise):
        blocks = [
            place(values.values, indices.values, length)
            for (values, indices), (_, length) in zip(sent, row_shapes(math.prod(shape), chunk), strict=True)
        ]
        return join(blocks, shape)

    return per_tensor(TensorCode(encode, decode))
