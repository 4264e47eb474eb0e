"""The weighted mean over clients."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def weighted_mean(tree: Any, weight: Float[Array, "K"]) -> Any:
    """sum_k w_k x_k / sum_k w_k over the leading axis of every leaf [K, ...]."""
    share = weight / jnp.sum(weight)
    return jax.tree.map(lambda leaf: jnp.tensordot(share, leaf, axes=1), tree)
