"""`mlp3`: three hidden layers Linear-LayerNorm-GELU each way."""

from learned_aggregation.split.bottlenecks.base import Bottleneck, perceptrons
from learned_aggregation.split.model import Cut


def mlp3(cut: Cut, latent_dim: int) -> Bottleneck:
    """d -> z -> d, token by token: three hidden layers of width d and a linear one, each way.

    Raises:
      UserError: a latent dimension below 1.
    """
    return perceptrons(cut, latent_dim, hidden=3)
