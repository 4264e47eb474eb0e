"""`fedlopt-adafac`."""

from learned_aggregation.learned.fast import fast_adafac
from learned_aggregation.types import Aggregator


def fedlopt_adafac(*, num_grads: int, hidden_size: int) -> Aggregator:
    """LOpt-A: the mean client delta, momentum and Adafactor statistics, through one small network.

    params <- params - 0.001 * direction * exp(0.001 * magnitude), (direction, magnitude) the network's two
    outputs for each scalar parameter. 28 + 11 = 39 inputs, for any K.

    Args:
      num_grads: K, the clients of a round.
      hidden_size: width of the network's two hidden layers.
    Raises:
      UserError: at update, when a fixed-K rule gets another number of clients.
    References:
      Joseph et al., "Meta-learning Optimizers for Communication-Efficient Learning", TMLR 2025,
      arXiv:2312.02204.
    """
    return fast_adafac("fedlopt-adafac", "mean", num_grads=num_grads, hidden_size=hidden_size)
