"""`fedlopt-adafac`."""

from learned_aggregation.aggregators.learned.fast import fast_adafac
from learned_aggregation.aggregators.learned.options import LearnedOptions, learned_rule
from learned_aggregation.types import Aggregator


@learned_rule
def fedlopt_adafac(options: LearnedOptions) -> Aggregator:
    """LOpt-A: the mean client delta, momentum and Adafactor statistics, through one small network.

    params <- params - 0.001 * direction * exp(0.001 * magnitude), (direction, magnitude) the network's two
    outputs for each scalar parameter. 28 + 11 = 39 inputs, for any K.

    Args: the fields of `LearnedOptions`, by keyword.
    Raises:
      UserError: an unknown base, a rate out of its range.
    References:
      Joseph et al., "Meta-learning Optimizers for Communication-Efficient Learning", TMLR 2025,
      arXiv:2312.02204.
    """
    return fast_adafac("fedlopt-adafac", "mean", options)
