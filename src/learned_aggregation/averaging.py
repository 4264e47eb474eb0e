"""The weighted mean over clients."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def weighted_mean(tree: Any, weight: Float[Array, "K"]) -> Any:
    """sum_k w_k x_k / sum_k w_k over the leading axis of every leaf [K, ...]."""
    share = weight / jnp.sum(weight)

    def mean(leaf: Array) -> Array:
        # Not a product of matrices: of problems that share their weights XLA makes one, and turns all leaves for it.
        return jnp.sum(share.reshape(-1, *[1] * (leaf.ndim - 1)) * leaf, axis=0)

    return jax.tree.map(mean, tree)
