"""`signsgd`: a sign for each number, a magnitude for each tensor."""

import jax.numpy as jnp

from learned_aggregation.federated.compressors.base import Field, TensorCode, peak, per_tensor
from learned_aggregation.types import Compressor


def signsgd() -> Compressor:
    """C(x) = mean|x| sign(x) in each tensor, with sign(0) = 1.

    |x - C(x)|^2 = (1 - |x|_1^2 / (n |x|_2^2)) |x|_2^2: it contracts, and needs error feedback to converge.

    Bits: n + 32 for a tensor of n numbers.
    Example:
      >>> import jax, jax.numpy as jnp
      >>> compressor, delta = signsgd(), jnp.array([1.0, -2.0, 3.0])
      >>> message, _ = compressor.encode(delta, compressor.init(delta), jax.random.key(0))
      >>> compressor.decode(message).tolist(), compressor.bits(delta)
      ([2.0, -2.0, 2.0], 35.0)

    References:
      Bernstein et al., "signSGD", ICML 2018, arXiv:1802.04434.
      Karimireddy et al., "Error Feedback Fixes SignSGD", ICML 2019, arXiv:1901.09847, Algorithm 1 (the scaled sign).
    """

    def encode(x, state, noise):
        top = peak(x)
        scale = jnp.mean(jnp.abs(x) / top) * top.reshape(())
        return (Field(scale, 32), Field((x < 0).astype(jnp.uint8), 1)), state

    def decode(sent, shape, noise):
        scale, negative = sent
        return jnp.where(negative.values == 1, -scale.values, scale.values)

    return per_tensor(TensorCode(encode, decode))
