"""`identity`: activations as they are; what the others are compared with."""

from learned_aggregation.split.bottlenecks.base import Autoencoder, Bottleneck
from learned_aggregation.split.model import Cut


def identity(cut: Cut, latent_dim: int) -> Bottleneck:
    """z = d, nothing is trained; `latent_dim` is not read."""
    return Bottleneck(lambda key: Autoencoder((), ()), lambda params, x: x, lambda params, x: x)
