"""Dense layers as PyTorch lays them out: weight [out, in], bias [out]; files of both fit each other."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_aggregation.types import Key

SLOPE = 0.2
"""Of LeakyReLU below zero."""


def dense(key: Key, inputs: int, outputs: int) -> dict[str, Array]:
    """LeCun-normal weights, zero biases."""
    weight = jax.random.normal(key, (outputs, inputs)) / jnp.sqrt(inputs)
    return {"weight": weight, "bias": jnp.zeros(outputs)}


def apply(layer: Any, x: Float[Array, "B in"]) -> Float[Array, "B out"]:
    return x @ layer["weight"].T + layer["bias"]


def stack(key: Key, sizes: Sequence[int]) -> dict[str, dict[str, Array]]:
    """Dense layers with a LeakyReLU between them; "0", "2", "4", ... as in a torch Sequential."""
    keys = jax.random.split(key, len(sizes) - 1)
    return {
        str(2 * i): dense(k, *pair) for i, (k, pair) in enumerate(zip(keys, pairwise(sizes), strict=True))
    }


def run_stack(layers: Any, x: Float[Array, "B in"], *, last: bool = False) -> Float[Array, "B out"]:
    """last: a LeakyReLU after the last layer too."""
    names = sorted(layers, key=int)
    for name in names:
        x = apply(layers[name], x)
        if last or name != names[-1]:
            x = jax.nn.leaky_relu(x, SLOPE)
    return x


def flat_condition(clip: Float[Array, "B ..."], sequence: int, dim: int) -> Float[Array, "B SD"]:
    """[B, S, D], or [B, D] repeated S times, as [B, S D]."""
    if clip.ndim == 2:
        clip = jnp.broadcast_to(clip[:, None], (clip.shape[0], sequence, dim))
    return clip.reshape(clip.shape[0], sequence * dim)


def cosine(a: Float[Array, "... D"], b: Float[Array, "... D"]) -> Float[Array, "..."]:
    """Cosine similarity over the last axis; 0 where one is zero."""
    norms = jnp.sqrt(jnp.maximum(jnp.sum(a**2, -1) * jnp.sum(b**2, -1), 1e-12))
    return jnp.sum(a * b, -1) / norms
