"""Attention between the positions of a sequence, with few passes over the scores on a CPU."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def attend(
    query: Float[Array, "B S N H"], key: Float[Array, "B S N H"], value: Float[Array, "B S N H"], causal: bool
) -> Float[Array, "B S N H"]:
    """softmax(query key' / sqrt(H)) value for each of N heads; causal: a position sees itself and those before it.

    Equal to jax.nn.dot_product_attention up to rounding, which other backends run. On a CPU the gradient is written
    out: the softmax's needs its output only, and the sum in it is one over H and not over S:

        d score = p * (d p - sum_H(out * d out)),  d p = d out value'

    Example:
      >>> import jax.numpy as jnp
      >>> x = jnp.ones((1, 3, 2, 4))
      >>> attend(x, x, x, True).shape
      (1, 3, 2, 4)
    """
    if jax.default_backend() != "cpu":
        return jax.nn.dot_product_attention(query, key, value, is_causal=causal)
    query = query * query.shape[-1] ** -0.5
    by_head = (part.swapaxes(1, 2) for part in (query, key, value))
    return jnp.swapaxes(_attend(causal, *by_head), 1, 2)


def _forward(causal: bool, query: Array, key: Array, value: Array):
    scores = query @ key.mT
    if causal:
        seen = jnp.tri(scores.shape[-1], dtype=bool)
        scores = jnp.where(seen, scores, -jnp.inf)
    weight = jnp.exp(scores - jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True)))
    weight = weight / jnp.sum(weight, axis=-1, keepdims=True)
    out = weight @ value
    return out, (query, key, value, weight, out)


def _backward(causal: bool, kept: tuple[Array, ...], above: Array) -> tuple[Array, Array, Array]:
    query, key, value, weight, out = kept
    of_scores = weight * (above @ value.mT - jnp.sum(out * above, axis=-1, keepdims=True))
    return of_scores @ key, of_scores.mT @ query, weight.mT @ above


def _output(causal: bool, query: Array, key: Array, value: Array) -> Float[Array, "B N S H"]:
    return _forward(causal, query, key, value)[0]


_attend: Any = jax.custom_vjp(_output, nondiff_argnums=(0,))
_attend.defvjp(_forward, _backward)
