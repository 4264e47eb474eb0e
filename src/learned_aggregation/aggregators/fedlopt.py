"""`fedlopt`."""

from learned_aggregation.aggregators.learned.fast import fast_plain
from learned_aggregation.aggregators.learned.options import LearnedOptions, learned_rule
from learned_aggregation.types import Aggregator


@learned_rule
def fedlopt(options: LearnedOptions) -> Aggregator:
    """LOpt: the mean client delta through one small network, without accumulators.

    params <- params - 0.001 * direction * exp(0.001 * magnitude), (direction, magnitude) the network's two
    outputs for each scalar parameter. 2 + 11 = 13 inputs, for any K.

    Args: the fields of `LearnedOptions`, by keyword.
    Raises:
      UserError: an unknown base, a rate out of its range.
    References:
      Joseph et al., "Meta-learning Optimizers for Communication-Efficient Learning", TMLR 2025,
      arXiv:2312.02204.
    """
    return fast_plain("fedlopt", "mean", options)
