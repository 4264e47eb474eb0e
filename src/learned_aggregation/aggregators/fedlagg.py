"""`fedlagg`."""

from learned_aggregation.aggregators.learned.fast import fast_plain
from learned_aggregation.aggregators.learned.options import LearnedOptions, learned_rule
from learned_aggregation.types import Aggregator


@learned_rule
def fedlagg(options: LearnedOptions) -> Aggregator:
    """LAgg: all K client deltas through one small network, without accumulators.

    params <- params - 0.001 * direction * exp(0.001 * magnitude), (direction, magnitude) the network's two
    outputs for each scalar parameter. K + 1 + 11 inputs (20 at K = 8); the clients' order matters, K is fixed.

    Args: the fields of `LearnedOptions`, by keyword.
    Raises:
      UserError: an unknown base, a rate out of its range; at update, another number of clients than num_grads.
    References:
      Joseph et al., "Meta-learning Optimizers for Communication-Efficient Learning", TMLR 2025,
      arXiv:2312.02204.
    """
    return fast_plain("fedlagg", "all", options)
