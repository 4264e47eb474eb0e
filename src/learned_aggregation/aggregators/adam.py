"""`adam`."""

import optax

from learned_aggregation.aggregators.classical import check_positive, classical
from learned_aggregation.types import Aggregator, Params


def adam(*, learning_rate: float) -> Aggregator:
    """Adam, data-parallel.

    m <- 0.9*m + 0.1*g;  v <- 0.999*v + 0.001*g^2;
    params <- params - learning_rate*m'/(sqrt(v') + 1e-8), m' and v' with bias correction.

    Data-parallel: one step per round on the gradient of the round's K*B examples, one communication per step.
    It reads that gradient as g = -mean(delta), which it is when every client took ONE local step of plain
    SGD at rate 1 (delta_k = -grad_k). With other local training it is a rule on the pseudo-gradient.

    Args:
      learning_rate: step size.
    Raises:
      UserError: learning_rate not above 0.
    References:
      Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, arXiv:1412.6980, Algorithm 1.
    """
    check_positive("adam", "learning_rate", learning_rate)
    optimizer = optax.adam(learning_rate)

    def rule(g: Params, state: optax.OptState):
        return optimizer.update(g, state)

    return classical(optimizer.init, rule)
