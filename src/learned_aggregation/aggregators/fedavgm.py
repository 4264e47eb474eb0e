"""`fedavgm`."""

import jax
import jax.numpy as jnp

from learned_aggregation.aggregators.classical import check_positive, check_range, classical
from learned_aggregation.types import Aggregator, Params


def fedavgm(*, beta: float, learning_rate: float = 1.0) -> Aggregator:
    """FedAvgM: heavy-ball momentum on the server.

    v <- beta*v + g;  params <- params - learning_rate*v, with g = -mean(delta), v starts at 0.

    Args:
      beta: server momentum in [0, 1). With beta 0 and learning_rate 1 it is FedAvg.
      learning_rate: server step size.
    Raises:
      UserError: beta outside [0, 1), learning_rate not above 0.
    References:
      Hsu et al., "Measuring the Effects of Non-Identical Data Distribution for Federated Visual
      Classification", 2019, arXiv:1909.06335 (server momentum).
    """
    check_range("fedavgm", "beta", beta, 0.0, 1.0)
    check_positive("fedavgm", "learning_rate", learning_rate)

    def rule(g: Params, velocity: Params):
        velocity = jax.tree.map(lambda v, x: beta * v + x, velocity, g)
        return jax.tree.map(lambda v: -learning_rate * v, velocity), velocity

    return classical(lambda params: jax.tree.map(jnp.zeros_like, params), rule)
