"""The classical rule under a learned aggregator's network, which then only corrects it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from learned_aggregation.aggregators.classical import check_positive, check_range
from learned_aggregation.errors import UserError
from learned_aggregation.registry import nearest

STEP_MULTIPLIER = 0.001
"""Both the step multiplier and the multiplier inside the exponential of the published form."""
CORRECTION_EXPONENT = 0.1
"""Multiplies the magnitude, inside the exponential, of a correction relative to the base."""
LAST_LAYER = 0.1
"""A network that corrects a base starts with its last layer's weights this much smaller."""

BASES = ("none", "mean", "momentum", "nesterov")


class Output(NamedTuple):
    """How the network's outputs become a step: -scale * direction * exp(exponent * magnitude)."""

    scale: Any = STEP_MULTIPLIER
    exponent: Any = STEP_MULTIPLIER


class Base(NamedTuple):
    """A rule for one tensor.

    init: param [*S] -> velocity ([*S], or () for a rule without one).
    step: (mean delta [*S], velocity) -> (b [*S], velocity).
    """

    init: Callable[[Array], Any]
    step: Callable[[Array, Any], tuple[Array, Any]]


def rms(x: Float[Array, "..."]) -> Float[Array, ""]:
    """Root mean square over a tensor; 0 (with derivative 0) for one of zeros."""
    mean_square = jnp.mean(x * x)
    return mean_square * lax.rsqrt(mean_square + 1e-20)


def make_base(where: str, base: str, learning_rate: Any, momentum: Any) -> Base | None:
    """The rule that gives b, or None for "none", the published form.

    With g the mean delta: "mean" b = learning_rate * g; "momentum" v <- momentum * v + g, b = learning_rate * v;
    "nesterov" v <- momentum * v + g, b = learning_rate * (g + momentum * v).

    The aggregator's step is then b - rms(b) * direction * exp(0.1 * magnitude), rms over the tensor: whatever
    the size of the deltas, the correction is in proportion, and a network that answers 0 leaves the base.

    Args:
      where: the aggregator's name, for errors.
    Raises:
      UserError: an unknown base, learning_rate not above 0, momentum outside [0, 1).
    """
    if base not in BASES:
        known = ", ".join(BASES)
        raise UserError(f"{where}: expected base to be one of {known}, got {base!r}.{nearest(base, BASES)}")
    check_positive(where, "base_learning_rate", learning_rate)
    check_range(where, "base_momentum", momentum, 0.0, 1.0)

    def no_velocity(param: Array) -> tuple[()]:
        return ()

    def mean(g: Array, velocity: Any):
        return learning_rate * g, velocity

    def heavy_ball(g: Array, velocity: Array):
        velocity = momentum * velocity + g
        return learning_rate * velocity, velocity

    def nesterov(g: Array, velocity: Array):
        velocity = momentum * velocity + g
        return learning_rate * (g + momentum * velocity), velocity

    rules = {
        "none": None,
        "mean": Base(no_velocity, mean),
        "momentum": Base(jnp.zeros_like, heavy_ball),
        "nesterov": Base(jnp.zeros_like, nesterov),
    }
    return rules[base]
