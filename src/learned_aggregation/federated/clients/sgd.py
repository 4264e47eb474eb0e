"""`sgd`: the local optimizer of local SGD."""

import optax


def sgd(learning_rate: float) -> optax.GradientTransformation:
    """W_k <- W_k - learning_rate * grad."""
    return optax.sgd(learning_rate)
