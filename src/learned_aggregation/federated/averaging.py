"""The weighted mean over clients."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def weighted_mean(tree: Any, weight: Float[Array, "K"]) -> Any:
    """sum_k w_k x_k / sum_k w_k over the leading axis of every leaf [K, ...]."""
    share = weight / jnp.sum(weight)
    return jax.tree.map(lambda leaf: _weighted_sum(share, leaf), tree)


def _product(share: Float[Array, "K"], leaf: Array) -> Array:
    return jnp.tensordot(share, leaf, axes=1)


@jax.custom_jvp
def _weighted_sum(share: Float[Array, "K"], leaf: Array) -> Array:
    """`_product`, with its derivatives of both modes; on a CPU one client after another.

    Of inner problems that share their weights XLA makes one product, and turns all their deltas for it.
    """
    if jax.default_backend() != "cpu":
        return _product(share, leaf)
    share, leaf = jnp.asarray(share), jnp.asarray(leaf)
    start = jnp.zeros(leaf.shape[1:], jnp.result_type(share, leaf))
    return jax.lax.fori_loop(0, leaf.shape[0], lambda k, total: total + share[k] * leaf[k], start)


@_weighted_sum.defjvp
def _derivative(primals, tangents):
    return jax.jvp(_product, primals, tangents)
