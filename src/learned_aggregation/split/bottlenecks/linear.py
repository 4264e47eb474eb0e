"""`linear`: one linear layer each way, as principal components have it."""

from learned_aggregation.split.bottlenecks.base import Bottleneck, perceptrons
from learned_aggregation.split.model import Cut


def linear(cut: Cut, latent_dim: int) -> Bottleneck:
    """z = E h + e ;  h' = D z + f, token by token.

    Raises:
      UserError: a latent dimension below 1.
    """
    return perceptrons(cut, latent_dim, hidden=0)
