"""A compressor on its way through the round: encoded, decoded, and differentiated as if it were not there."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from learned_aggregation.types import Compressor, Key, Params


def compress(compressor: Compressor, tree: Params, feedback: Any, key: Key) -> tuple[Params, Any]:
    """(decode(encode(tree)), the new feedback): what the other side gets of one client's tree.

    The derivative of the decoded tree is that of `tree`, and the feedback has none (a straight-through estimator):
    rounding and selection have no useful derivative, and truncated backpropagation must pass through them.

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
        return (decoded, new), (tangents[0], jax.tree.map(_no_tangent, new))

    return crossed(tree, feedback, key)


def _no_tangent(leaf: jax.Array) -> Any:
    if jnp.issubdtype(leaf.dtype, jnp.inexact):
        return jnp.zeros_like(leaf)
    return np.zeros(leaf.shape, jax.dtypes.float0)
