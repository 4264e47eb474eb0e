"""Rates and gradients as masked modelling's recipes count them."""

import optax


def base_rate(blr: float, batch: int, accum_iter: int = 1) -> float:
    """lr = blr * batch * accum_iter / 256.

    Example:
      >>> base_rate(1.5e-4, 512)
      0.0003
    """
    return blr * batch * accum_iter / 256


def accumulated(optimizer: optax.GradientTransformation, accum_iter: int) -> optax.GradientTransformation:
    """The optimizer on the mean gradient of `accum_iter` local steps in a row; in between nothing moves.

    Example:
      >>> import jax.numpy as jnp
      >>> both = accumulated(optax.sgd(1.0), 2)
      >>> first, state = both.update(jnp.array(1.0), both.init(jnp.zeros(())))
      >>> second, state = both.update(jnp.array(3.0), state)
      >>> float(first), float(second)
      (0.0, -2.0)
    """
    return optax.MultiSteps(optimizer, accum_iter).gradient_transformation()
