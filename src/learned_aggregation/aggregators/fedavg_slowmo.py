"""`fedavg-slowmo`."""

import jax
import jax.numpy as jnp

from learned_aggregation.aggregators.classical import check_range, classical
from learned_aggregation.types import Aggregator, Params


def fedavg_slowmo(*, slowmo_learning_rate: float, beta: float, local_learning_rate: float) -> Aggregator:
    """SlowMo: server momentum on the averaged client deltas.

    u <- beta*u + g/local_learning_rate;  params <- params - slowmo_learning_rate*u, u starts at 0.

    Args:
      slowmo_learning_rate: server step size; the paper's alpha is slowmo_learning_rate / local_learning_rate.
        Equal to local_learning_rate with beta 0 it is FedAvg.
      beta: server momentum in [0, 1).
      local_learning_rate: the clients' rate gamma.
    Raises:
      UserError: beta outside [0, 1), local_learning_rate not above 0.
    References:
      Wang et al., "SlowMo", ICLR 2020, arXiv:1910.00643, Algorithm 1.
    """
    check_range("fedavg-slowmo", "beta", beta, 0.0, 1.0)
    check_range("fedavg-slowmo", "local_learning_rate", local_learning_rate, 1e-30, float("inf"))

    def rule(g: Params, velocity: Params):
        velocity = jax.tree.map(lambda u, x: beta * u + x / local_learning_rate, velocity, g)
        return jax.tree.map(lambda u: -slowmo_learning_rate * u, velocity), velocity

    return classical(lambda params: jax.tree.map(jnp.zeros_like, params), rule)
