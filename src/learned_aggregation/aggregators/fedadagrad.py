"""`fedadagrad`."""

from learned_aggregation.aggregators.classical import adaptive
from learned_aggregation.types import Aggregator


def fedadagrad(*, learning_rate: float, beta1: float = 0.9, tau: float = 1e-3) -> Aggregator:
    """FedAdagrad: Adagrad with momentum on the server.

    m <- beta1*m + (1 - beta1)*g;  v <- v + g^2;
    params <- params - learning_rate*m/(sqrt(v) + tau), with g = -mean(delta). m starts at 0, v at tau^2;
    no bias correction. With beta1 0 it is Adagrad without momentum.

    Args:
      learning_rate: server step size (the paper's eta); the paper tunes it for each task.
      beta1: decay of the first moment, in [0, 1).
      tau: degree of adaptivity: the smaller, the more each parameter gets its own step size.
    Raises:
      UserError: learning_rate or tau not above 0, beta1 outside [0, 1).
    References:
      Reddi et al., "Adaptive Federated Optimization", ICLR 2021, arXiv:2003.00295, Algorithm 2.
    """
    return adaptive("fedadagrad", lambda v, g2: v + g2, learning_rate=learning_rate, beta1=beta1, tau=tau)
