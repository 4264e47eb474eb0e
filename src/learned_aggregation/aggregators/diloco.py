"""`diloco`."""

import jax
import jax.numpy as jnp

from learned_aggregation.aggregators.classical import check_positive, check_range, classical
from learned_aggregation.types import Aggregator, Params


def diloco(*, learning_rate: float = 0.7, beta: float = 0.9) -> Aggregator:
    """DiLoCo's outer optimizer: Nesterov momentum on the server; its clients run AdamW.

    v <- beta*v + g;  params <- params - learning_rate*(g + beta*v), with g = -mean(delta), v starts at 0.

    Args:
      learning_rate: outer step size. With learning_rate 1 and beta 0 it is FedAvg.
      beta: outer momentum (the paper's mu) in [0, 1).
    Raises:
      UserError: beta outside [0, 1), learning_rate not above 0.
    References:
      Douillard et al., "DiLoCo: Distributed Low-Communication Training of Language Models", 2023,
      arXiv:2311.08105, Algorithm 1.
    """
    check_range("diloco", "beta", beta, 0.0, 1.0)
    check_positive("diloco", "learning_rate", learning_rate)

    def rule(g: Params, velocity: Params):
        velocity = jax.tree.map(lambda v, x: beta * v + x, velocity, g)
        return jax.tree.map(lambda v, x: -learning_rate * (x + beta * v), velocity, g), velocity

    return classical(lambda params: jax.tree.map(jnp.zeros_like, params), rule)
