"""What the bottlenecks share: their two functions, and perceptrons over single tokens."""

from collections.abc import Callable
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from learned_aggregation.errors import UserError
from learned_aggregation.split.model import Cut
from learned_aggregation.types import Key, Params


class Autoencoder(NamedTuple):
    """The parameters of a bottleneck: the clients' half and the server's."""

    encoder: Params
    decoder: Params


class Bottleneck(NamedTuple):
    """An autoencoder of a batch of tokens; m latents of z numbers stand for n tokens of d.

    init: key -> Autoencoder. latents: (m, z).
    """

    init: Callable[[Key], Autoencoder]
    encode: Callable[[Params, Float[Array, "B n d"]], Float[Array, "B m z"]]
    decode: Callable[[Params, Float[Array, "B m z"]], Float[Array, "B n d"]]


def check_latent_dim(latent_dim: int) -> None:
    """Raises a UserError unless it is a whole number of at least 1."""
    if isinstance(latent_dim, bool) or not isinstance(latent_dim, int) or latent_dim < 1:
        raise UserError(
            f"latent_dim: expected a whole number of at least 1, got {latent_dim!r}. Choose one such as 8."
        )


class Perceptron(nn.Module):
    """`hidden` layers Linear-LayerNorm-GELU of `width`, then a linear one to `outputs`, on the last axis."""

    hidden: int
    width: int
    outputs: int

    @nn.compact
    def __call__(self, x):
        for _ in range(self.hidden):
            x = nn.gelu(nn.LayerNorm()(nn.Dense(self.width)(x)))
        return nn.Dense(self.outputs)(x)


def from_modules(encoder: nn.Module, decoder: nn.Module, cut: Cut) -> Bottleneck:
    """The bottleneck of two flax modules, x -> latents and back."""

    def init(key: Key) -> Autoencoder:
        first, second = jax.random.split(key)
        tokens = jnp.zeros((1, cut.tokens, cut.width))
        latents, variables = encoder.init_with_output(first, tokens)
        return Autoencoder(variables["params"], decoder.init(second, latents)["params"])

    return Bottleneck(
        init,
        lambda params, x: cast(Array, encoder.apply({"params": params}, x)),
        lambda params, x: cast(Array, decoder.apply({"params": params}, x)),
    )


def perceptrons(cut: Cut, latent_dim: int, hidden: int) -> Bottleneck:
    """d -> z -> d, token by token, each way through `hidden` layers of width d."""
    check_latent_dim(latent_dim)
    encoder = Perceptron(hidden, cut.width, latent_dim)
    return from_modules(encoder, Perceptron(hidden, cut.width, cut.width), cut)
