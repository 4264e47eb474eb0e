"""`fedadam`."""

from learned_aggregation.aggregators.classical import adaptive, check_range
from learned_aggregation.types import Aggregator


def fedadam(
    *, learning_rate: float, beta1: float = 0.9, beta2: float = 0.99, tau: float = 1e-3
) -> Aggregator:
    """FedAdam: Adam on the server.

    m <- beta1*m + (1 - beta1)*g;  v <- beta2*v + (1 - beta2)*g^2;
    params <- params - learning_rate*m/(sqrt(v) + tau), with g = -mean(delta). m starts at 0, v at tau^2;
    no bias correction.

    Args:
      learning_rate: server step size (the paper's eta); the paper tunes it for each task.
      beta1: decay of the first moment, in [0, 1).
      beta2: decay of the second moment, in [0, 1).
      tau: degree of adaptivity: the smaller, the more each parameter gets its own step size.
    Raises:
      UserError: learning_rate or tau not above 0, beta1 or beta2 outside [0, 1).
    References:
      Reddi et al., "Adaptive Federated Optimization", ICLR 2021, arXiv:2003.00295, Algorithm 2.
    """
    check_range("fedadam", "beta2", beta2, 0.0, 1.0)
    return adaptive(
        "fedadam",
        lambda v, g2: beta2 * v + (1.0 - beta2) * g2,
        learning_rate=learning_rate,
        beta1=beta1,
        tau=tau,
    )
