"""`momentum`: heavy-ball SGD on the clients."""

import optax


def momentum(learning_rate: float) -> optax.GradientTransformation:
    """v <- 0.9*v + grad;  W_k <- W_k - learning_rate*v, v starts at 0.

    References:
      Polyak, "Some methods of speeding up the convergence of iteration methods", 1964.
    """
    return optax.sgd(learning_rate, momentum=0.9)
