"""Pre-norm transformer blocks as pure functions: self-attention (the package's ViT block) and cross-attention.

The parameters of a self-attention block are those of `tasks.transformer_layers.Block`, name by name, so that an encoder
that was trained here is a ViT's there.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_aggregation.tasks.attention import attend
from learned_aggregation.tasks.products import product
from learned_aggregation.types import Key, Params

EPSILON = 1e-6
"""Added to the variance in a LayerNorm, as flax and the ViT papers have it."""


def init_dense(key: Key, inputs: int, outputs: int) -> Params:
    """{"kernel": [inputs, outputs], "bias": [outputs]}: Xavier uniform, and zeros."""
    return {
        "kernel": jax.nn.initializers.xavier_uniform()(key, (inputs, outputs)),
        "bias": jnp.zeros(outputs),
    }


def dense(params: Params, x: Float[Array, "*rows d"]) -> Float[Array, "*rows m"]:
    """x kernel + bias."""
    return product(x, params["kernel"]) + params["bias"]


def init_norm(width: int) -> Params:
    """{"scale": ones [width], "bias": zeros [width]}."""
    return {"scale": jnp.ones(width), "bias": jnp.zeros(width)}


def norm(params: Params, x: Float[Array, "*rows d"]) -> Float[Array, "*rows d"]:
    """LayerNorm over the last axis: (x - mean) / sqrt(variance + 1e-6) * scale + bias."""
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    scale = jax.lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + EPSILON)
    return centred * scale * params["scale"] + params["bias"]


def init_attention(key: Key, width: int) -> Params:
    """{"query", "key", "value", "out"}: four dense layers [width, width]."""
    keys = jax.random.split(key, 4)
    return {
        name: init_dense(k, width, width)
        for name, k in zip(("query", "key", "value", "out"), keys, strict=True)
    }


def attention(
    params: Params, x: Float[Array, "B S D"], memory: Float[Array, "B M D"], heads: int
) -> Float[Array, "B S D"]:
    """Each position of x attends to those of `memory`; x itself for self-attention."""

    def by_head(name: str, of: Array) -> Array:
        return dense(params[name], of).reshape(*of.shape[:-1], heads, -1)

    mixed = attend(by_head("query", x), by_head("key", memory), by_head("value", memory), causal=False)
    return dense(params["out"], mixed.reshape(x.shape))


def init_mlp(key: Key, width: int, hidden: int) -> Params:
    """{"mlp_1": [width, hidden], "mlp_2": [hidden, width]}."""
    first, second = jax.random.split(key)
    return {"mlp_1": init_dense(first, width, hidden), "mlp_2": init_dense(second, hidden, width)}


def mlp(params: Params, x: Float[Array, "B S D"]) -> Float[Array, "B S D"]:
    """One hidden layer with GELU (its tanh form, as flax's)."""
    return dense(params["mlp_2"], jax.nn.gelu(dense(params["mlp_1"], x)))


def init_block(key: Key, width: int, hidden: int) -> Params:
    """The parameters of `block`: `width` is the model's, `hidden` the MLP's."""
    first, second = jax.random.split(key)
    norms = {"norm_1": init_norm(width), "norm_2": init_norm(width)}
    return {**norms, **init_attention(first, width), **init_mlp(second, width, hidden)}


def block(params: Params, x: Float[Array, "B S D"], heads: int) -> Float[Array, "B S D"]:
    """x + attention(norm(x)), then x + mlp(norm(x)).

    Example:
      >>> import jax, jax.numpy as jnp
      >>> params = init_block(jax.random.key(0), 8, 16)
      >>> block(params, jnp.ones((2, 5, 8)), heads=2).shape
      (2, 5, 8)
    """
    seen = norm(params["norm_1"], x)
    x = x + attention(params, seen, seen, heads)
    return x + mlp(params, norm(params["norm_2"], x))


def init_cross_block(key: Key, width: int, hidden: int) -> Params:
    """The parameters of `cross_block`: those of `block`, and "cross" and "norm_cross"."""
    first, second = jax.random.split(key)
    return {
        **init_block(first, width, hidden),
        "norm_cross": init_norm(width),
        "cross": init_attention(second, width),
    }


def cross_block(
    params: Params, x: Float[Array, "B S D"], memory: Float[Array, "B M D"], heads: int
) -> Float[Array, "B S D"]:
    """x + cross-attention(norm(x), memory), then `block`; `memory` comes normalised, of any length.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> params = init_cross_block(jax.random.key(0), 8, 16)
      >>> cross_block(params, jnp.ones((2, 5, 8)), jnp.ones((2, 3, 8)), heads=2).shape
      (2, 5, 8)
    """
    x = x + attention(params["cross"], norm(params["norm_cross"], x), memory, heads)
    return block(params, x, heads)


def blocks(layers: Sequence[Params], x: Float[Array, "B S D"], heads: int) -> list[Float[Array, "B S D"]]:
    """The output of each block, one after the other; the last is the stack's."""
    outputs = []
    for params in layers:
        x = block(params, x, heads)
        outputs.append(x)
    return outputs
