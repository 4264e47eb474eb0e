"""`qsgd`: stochastic rounding to evenly spaced levels."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_aggregation.federated.compressors.base import (
    Field,
    TensorCode,
    check_choice,
    check_whole,
    peak,
    per_tensor,
)
from learned_aggregation.federated.compressors.chunks import join, split
from learned_aggregation.types import Compressor


def qsgd(*, bits: int = 8, norm: str = "l2", bucket: int = 0) -> Compressor:
    """C(x)_i = |x| sign(x_i) l_i/s, l_i one of the two whole numbers around s |x_i|/|x|, drawn so that E[C(x)] = x.

    s = 2^(bits - 1) - 1 levels above 0. With the 2-norm E|x - C(x)|^2 <= min(n/s^2, sqrt(n)/s) |x|^2; with the
    maximum norm it is at most n/(4 s^2) max|x|^2, mostly far less.

    Bits: n bits + 32 for a bucket of n numbers: codes of a fixed width, a sign and a level, and the norm. (The
    paper's Elias code is shorter for few levels and has no fixed length.)

    Args:
      bits: per number, 2 to 8.
      norm: "l2" (the paper's) or "max" (smaller errors, as its experiments have it).
      bucket: numbers that share a norm, in row-major order, the last ones perhaps fewer; 0 for the whole tensor.
    Raises:
      UserError: bits outside 2 to 8, an unknown norm, bucket below 0.
    Example:
      >>> import jax, jax.numpy as jnp
      >>> compressor, delta = qsgd(bits=2, norm="max"), jnp.array([4.0, -4.0, 0.0])
      >>> message, _ = compressor.encode(delta, compressor.init(delta), jax.random.key(0))
      >>> compressor.decode(message).tolist(), compressor.bits(delta)
      ([4.0, -4.0, 0.0], 38.0)

    References:
      Alistarh et al., "QSGD", NeurIPS 2017, arXiv:1610.02132, Section 3.1, Lemma 3.1; Section 4 (buckets).
    """
    check_whole("qsgd", "bits", bits, 2, 8)
    check_choice("qsgd", "norm", norm, ("l2", "max"))
    check_whole("qsgd", "bucket", bucket, 0)
    levels = 2 ** (bits - 1) - 1

    def encode_rows(x: Float[Array, "rows length"], uniform: Float[Array, "rows length"]):
        top = peak(x, axis=1)
        ratio = jnp.abs(x) / top
        length = jnp.sqrt(jnp.sum(ratio**2, axis=1, keepdims=True)) if norm == "l2" else 1.0
        exact = ratio / jnp.where(length == 0.0, 1.0, length) * levels
        low = jnp.floor(exact)
        # Not floor(exact + u): that sum rounds, and near the top it reaches a level that does not exist.
        up = uniform < exact - low
        level = jnp.minimum(low + up, levels).astype(jnp.uint8)
        sign = (x < 0).astype(jnp.uint8) << (bits - 1)
        return Field(top * length, 32), Field(sign | level, bits)

    def encode(x, state, noise):
        uniform = (noise >> 8).astype(jnp.float32) * 2.0**-24  # in [0, 1)
        return list(map(encode_rows, split(x, bucket), split(uniform, bucket))), state

    def decode_rows(size: Field, code: Field) -> Float[Array, "rows length"]:
        level = (code.values & levels).astype(jnp.float32)
        sign = jnp.where(code.values >> (bits - 1) == 1, -1.0, 1.0)
        return sign * (level / levels) * size.values

    def decode(sent, shape, noise):
        return join([decode_rows(*block) for block in sent], shape)

    return per_tensor(TensorCode(encode, decode, random="sender"))
