"""`mlp1`: one hidden layer Linear-LayerNorm-GELU each way."""

from learned_aggregation.split.bottlenecks.base import Bottleneck, perceptrons
from learned_aggregation.split.model import Cut


def mlp1(cut: Cut, latent_dim: int) -> Bottleneck:
    """d -> z -> d, token by token: one hidden layer of width d and a linear one, each way.

    Raises:
      UserError: a latent dimension below 1.
    """
    return perceptrons(cut, latent_dim, hidden=1)
