"""The per-parameter network: a small MLP shared by every scalar of the model."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_aggregation.types import Key

LAYERS = 3
OUTPUTS = 2


def init_network(key: Key, num_inputs: int, hidden_size: int) -> dict[str, Array]:
    """Initial weights: truncated normal (at two standard deviations) times 1/sqrt(fan_in), zero biases.

    Returns:
      {"w0" [F, hidden], "b0" [hidden], "w1" [hidden, hidden], "b1", "w2" [hidden, 2], "b2"}.
    """
    sizes = (num_inputs, hidden_size, hidden_size, OUTPUTS)
    weights = {}
    for layer, layer_key in enumerate(jax.random.split(key, LAYERS)):
        fan_in, fan_out = sizes[layer : layer + 2]
        unit = jax.random.truncated_normal(layer_key, -2.0, 2.0, (fan_in, fan_out))
        weights[f"w{layer}"] = unit / jnp.sqrt(float(fan_in))
        weights[f"b{layer}"] = jnp.zeros(fan_out)
    return weights


def apply_network(weights: dict[str, Array], features: Float[Array, "N F"]) -> Float[Array, "N 2"]:
    """MLP with two hidden layers and ReLU; columns of the output are (direction, magnitude)."""
    hidden = features
    for layer in range(LAYERS):
        hidden = hidden @ weights[f"w{layer}"] + weights[f"b{layer}"]
        if layer < LAYERS - 1:
            hidden = jax.nn.relu(hidden)
    return hidden
