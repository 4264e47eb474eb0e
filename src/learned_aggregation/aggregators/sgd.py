"""`sgd`."""

import jax

from learned_aggregation.aggregators.classical import check_positive, classical
from learned_aggregation.types import Aggregator


def sgd(*, learning_rate: float) -> Aggregator:
    """SGD, data-parallel.

    params <- params - learning_rate*g.

    Data-parallel: one step per round on the gradient of the round's K*B examples, one communication per step.
    It reads that gradient as g = -mean(delta), which it is when every client took ONE local step of plain
    SGD at rate 1 (delta_k = -grad_k). With other local training it is a rule on the pseudo-gradient.

    Args:
      learning_rate: step size.
    Raises:
      UserError: learning_rate not above 0.
    References:
      Robbins and Monro, "A Stochastic Approximation Method", 1951.
    """
    check_positive("sgd", "learning_rate", learning_rate)
    return classical(
        lambda params: (), lambda g, state: (jax.tree.map(lambda x: -learning_rate * x, g), state)
    )
