"""A compressor on its way through the round: encoded, decoded, and differentiated straight through."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from learned_aggregation.types import Compressor, Key, Params


def compress(compressor: Compressor, tree: Params, feedback: Any, key: Key) -> tuple[Params, Any]:
    """(decode(encode(tree)), the new feedback): what the other side gets of one client's tree.

    Rounding and selection have no useful derivative, and truncated backpropagation must pass through them: where a
    number arrives, its derivative is that of the number that was sent (a straight-through estimator); where 0 arrives
    in its place, and for the feedback, there is none. (A rule that divides by the size of what it got, as Adam and the
    learned ones do, is as steep at 0 as it can be: with derivatives there, every window's gradient explodes.)

    References:
      Bengio et al., "Estimating or propagating gradients through stochastic neurons", 2013, arXiv:1308.3432.
    """

    @jax.custom_jvp
    def crossed(tree, feedback, key):
        message, feedback = compressor.encode(tree, feedback, key)
        return compressor.decode(message), feedback

    @crossed.defjvp
    def _(primals, tangents):
        decoded, new = crossed(*primals)
        arrived = jax.tree.map(_straight_through, primals[0], decoded, tangents[0])
        return (decoded, new), (arrived, jax.tree.map(_no_tangent, new))

    return crossed(tree, feedback, key)


def _straight_through(sent: Array, arrived: Array, tangent: Array) -> Array:
    return jnp.where((arrived == 0) & (sent != 0), 0, tangent)


def _no_tangent(leaf: jax.Array) -> Any:
    if jnp.issubdtype(leaf.dtype, jnp.inexact):
        return jnp.zeros_like(leaf)
    return np.zeros(leaf.shape, jax.dtypes.float0)
