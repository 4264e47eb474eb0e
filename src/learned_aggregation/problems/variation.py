"""Inner problems of which every episode is another: drawn at its reset, kept to its end."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_aggregation.types import InnerProblem, Key, Theta


class VariedState(NamedTuple):
    """variation: this episode's draw; inner: the state of the problem that it makes."""

    variation: Any
    inner: Any


def varied(draw: Callable[[Key], Any], problem_given: Callable[[Any], InnerProblem]) -> InnerProblem:
    """An inner problem that draws a variation at each reset and is `problem_given(variation)` until the next.

    The variation is data, not a shape: all episodes share one compiled program, and the arms of an antithetic
    pair, which share their start, share it too.
    """

    def reset(theta: Theta, data: Any, key: Key) -> VariedState:
        draw_key, reset_key = jax.random.split(key)
        variation = draw(draw_key)
        return VariedState(variation, problem_given(variation).reset(theta, data, reset_key))

    def advance(theta: Theta, state: VariedState, data: Any, key: Key):
        inner, loss = problem_given(state.variation).advance(theta, state.inner, data, key)
        return state._replace(inner=inner), loss

    return InnerProblem(reset, advance)


def log_uniform(key: Key, low: float, high: float) -> Float[Array, ""]:
    """low * (high / low)^u, u uniform in [0, 1)."""
    return low * (high / low) ** jax.random.uniform(key)


def geometric(first: float, last: float, steps: int, step: Array | int) -> Float[Array, ""]:
    """first * (last / first)^min(1, step / steps): a value that moves with the outer steps."""
    return first * (last / first) ** jnp.minimum(1.0, jnp.asarray(step, jnp.float32) / steps)
