"""`randk`: random numbers, drawn by both sides from one seed."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, UInt32

from learned_aggregation.federated.compressors.base import (
    Field,
    TensorCode,
    check_choice,
    check_fraction,
    check_whole,
    per_tensor,
)
from learned_aggregation.federated.compressors.chunks import join, place, row_shapes, share, split
from learned_aggregation.types import Compressor


def randk(*, fraction: float = 1 / 64, chunk: int = 0, unbiased: bool = True) -> Compressor:
    """C(x) = (n/k) x at k coordinates drawn without replacement and 0 elsewhere, k = max(1, ceil(fraction*n)).

    E[C(x)] = x and E|x - C(x)|^2 = (n/k - 1) |x|^2. Without the factor n/k it is biased and contracts instead:
    E|x - C(x)|^2 = (1 - k/n) |x|^2, which is what error feedback asks for.

    Bits: 32 k for a tensor of n numbers and 32 for the message: the seed from which both sides draw the
    coordinates. With chunks k is counted in each of them, the shorter last one included.

    Args:
      fraction: what to send of each tensor or chunk, in (0, 1]; static, it sets shapes.
      chunk: numbers of a chunk, in row-major order; 0 for the whole tensor.
      unbiased: whether to multiply by n/k.
    Raises:
      UserError: fraction outside (0, 1], chunk below 0, unbiased neither True nor False.
    Example:
      >>> import jax, jax.numpy as jnp
      >>> compressor, delta = randk(fraction=0.5), jnp.ones(4)
      >>> message, _ = compressor.encode(delta, compressor.init(delta), jax.random.key(0))
      >>> sorted(compressor.decode(message).tolist()), compressor.bits(delta)
      ([0.0, 0.0, 2.0, 2.0], 96.0)

    References:
      Stich et al., "Sparsified SGD with Memory", NeurIPS 2018, arXiv:1809.07599, Section 2 (rand_k).
      Konecny et al., "Federated Learning: Strategies for Improving Communication Efficiency", 2016,
      arXiv:1610.05492, Section 2 (a random mask from a seed).
    """
    check_fraction("randk", "fraction", fraction)
    check_whole("randk", "chunk", chunk, 0)
    check_choice("randk", "unbiased", unbiased, (True, False))

    def coordinates(noise: UInt32[Array, "n"]) -> list[Int[Array, "rows k"]]:
        # Sorted by random numbers, a row's indices are in random order. With 32 bits two of a million numbers are
        # equal at the k-th place, where the order would then favour the first, once in some thousand draws.
        drawn = []
        for bits in split(noise, chunk):
            indices = jax.lax.broadcasted_iota(jnp.int32, bits.shape, 1)
            _, order = jax.lax.sort_key_val(bits, indices, dimension=1)
            drawn.append(order[:, : share(fraction, bits.shape[1])])
        return drawn

    def encode(x, state, noise):
        blocks = zip(split(x, chunk), coordinates(noise), strict=True)
        return [Field(jnp.take_along_axis(block, drawn, axis=1), 32) for block, drawn in blocks], state

    def decode(sent, shape, noise):
        blocks, shapes = [], row_shapes(math.prod(shape), chunk)
        for field, drawn, (_, length) in zip(sent, coordinates(noise), shapes, strict=True):
            factor = length / share(fraction, length) if unbiased else 1.0
            blocks.append(place(field.values * factor, drawn, length))
        return join(blocks, shape)

    return per_tensor(TensorCode(encode, decode, random="both"))
