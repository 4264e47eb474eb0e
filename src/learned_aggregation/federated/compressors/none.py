"""`none`: everything, as it is."""

from learned_aggregation.federated.compressors.base import Field, TensorCode, per_tensor
from learned_aggregation.types import Compressor


def none() -> Compressor:
    """C(x) = x, bit for bit.

    Numbers cross as float32 whatever the dtype, which loses nothing of float32, bfloat16 and float16.

    Bits: 32 n for n numbers.
    Example:
      >>> import jax, jax.numpy as jnp
      >>> compressor, delta = none(), jnp.array([1.0, -2.0, 0.5])
      >>> message, _ = compressor.encode(delta, compressor.init(delta), jax.random.key(0))
      >>> compressor.decode(message).tolist(), compressor.bits(delta)
      ([1.0, -2.0, 0.5], 96.0)
    """
    return per_tensor(
        TensorCode(
            encode=lambda x, state, noise: (Field(x, 32), state),
            decode=lambda sent, shape, noise: sent.values,
        )
    )
