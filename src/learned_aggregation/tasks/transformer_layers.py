"""Pre-norm transformer blocks, for images and text, compiled once however many there are."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array

from learned_aggregation.tasks.attention import attend
from learned_aggregation.tasks.products import product


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)): [B, S, D] -> [B, S, D].

    Each of the heads attends in `head_size` dimensions; the MLP has one hidden layer with GELU.
    """

    heads: int
    head_size: int
    mlp: int
    causal: bool
    kernel_init: Callable[..., Any]

    @nn.compact
    def __call__(self, x):
        width = x.shape[-1]
        h = nn.LayerNorm(name="norm_1")(x)
        query, key, value = (
            self._dense(self.heads * self.head_size, name)(h).reshape(
                *h.shape[:-1], self.heads, self.head_size
            )
            for name in ("query", "key", "value")
        )
        mixed = attend(query, key, value, self.causal)
        x = x + self._dense(width, "out")(mixed.reshape(*h.shape[:-1], -1))
        h = nn.gelu(self._dense(self.mlp, "mlp_1")(nn.LayerNorm(name="norm_2")(x)))
        return x + self._dense(width, "mlp_2")(h)

    def _dense(self, features: int, name: str) -> nn.Dense:
        return nn.Dense(features, kernel_init=self.kernel_init, dot_general=product, name=name)


class Layers(nn.Module):
    """`count` blocks one after the other.

    They run as one scan, so compile time does not grow with depth, but each keeps parameters of its own: an
    aggregator's features are those of single tensors, and stacking layers into one would change them.

    Args:
      make_block: () -> a Block without a parent.
      remat: keep each block's input for the gradient, and compute the rest of its activations again.
    """

    make_block: Callable[[], nn.Module]
    count: int
    remat: bool = False

    @nn.compact
    def __call__(self, x):
        block = self.make_block()
        layers = [
            self.param(f"layer_{i}", lambda key: block.init(key, x)["params"]) for i in range(self.count)
        ]

        return apply_blocks(block, layers, x, self.remat)


def apply_blocks(block: nn.Module, layers: Sequence[Any], x: Array, remat: bool = False) -> Array:
    """`block` with each of `layers`' parameters, one after the other, as one scan: [B, S, D] -> [B, S, D]."""

    def step(h: Any, layer: Any) -> tuple[Any, None]:
        return block.apply({"params": layer}, h), None

    step = jax.checkpoint(step) if remat else step
    return jax.lax.scan(step, x, jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers))[0]
