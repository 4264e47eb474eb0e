"""One step of an optimizer, whatever tree it moves."""

from typing import Any

import optax


def stepped(
    optimizer: optax.GradientTransformation, gradient: Any, state: Any, params: Any
) -> tuple[Any, Any]:
    """(params, the optimizer's state) after the step.

    Example:
      >>> stepped(optax.sgd(0.5), 1.0, optax.sgd(0.5).init(2.0), 2.0)[0].item()
      1.5
    """
    updates, state = optimizer.update(gradient, state, params)
    return optax.apply_updates(params, updates), state
