"""`fedlagg`."""

from learned_aggregation.learned.fast import fast_plain
from learned_aggregation.types import Aggregator


def fedlagg(*, num_grads: int, hidden_size: int) -> Aggregator:
    """LAgg: all K client deltas through one small network, without accumulators.

    params <- params - 0.001 * direction * exp(0.001 * magnitude), (direction, magnitude) the network's two
    outputs for each scalar parameter. K + 1 + 11 inputs (20 at K = 8); the clients' order matters, K is fixed.

    Args:
      num_grads: K, the clients of a round.
      hidden_size: width of the network's two hidden layers.
    Raises:
      UserError: at update, when a fixed-K rule gets another number of clients.
    References:
      Joseph et al., "Meta-learning Optimizers for Communication-Efficient Learning", TMLR 2025,
      arXiv:2312.02204.
    """
    return fast_plain("fedlagg", "all", num_grads=num_grads, hidden_size=hidden_size)
