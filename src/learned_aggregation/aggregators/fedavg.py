"""`fedavg`."""

import jax

from learned_aggregation.aggregators.classical import classical
from learned_aggregation.types import Aggregator


def fedavg() -> Aggregator:
    """FedAvg (local SGD): the server adopts the clients' weighted mean.

    params <- params - g, with g = -mean(delta).

    References:
      McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data",
      AISTATS 2017, arXiv:1602.05629, Algorithm 1.
    """
    return classical(lambda params: (), lambda g, state: (jax.tree.map(lambda x: -x, g), state))
