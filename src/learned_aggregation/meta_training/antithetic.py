"""The antithetic pair: two arms at theta + eps and theta - eps that share data, start and keys."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from learned_aggregation.meta_training.unroll import unroll
from learned_aggregation.types import InnerProblem, Key, Theta


def perturbation(key: Key, theta: Theta, std: float | Array) -> Theta:
    """eps ~ N(0, std^2 I), shaped like theta; drawn as one vector, which compiles faster than many."""
    flat, unravel = ravel_pytree(theta)
    return unravel(std * jax.random.normal(key, flat.shape, flat.dtype))


def arms_of(theta: Theta, eps: Theta) -> Theta:
    """theta + eps and theta - eps, stacked on a new leading axis of 2."""
    return jax.tree.map(lambda t, e: jnp.stack([t + e, t - e]), theta, eps)


def start_arms(problem: InnerProblem, theta: Theta, data: Any, key: Key) -> Any:
    """The pair of inner states at the start of an episode: both arms alike, leaves [2, ...]."""
    start = problem.reset(theta, data, key)
    return jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), start)


def unroll_arms(
    problem: InnerProblem, theta: Theta, eps: Theta, states: Any, data: Any, key: Key, length: int
) -> tuple[Any, Float[Array, "2 L"]]:
    """Both arms through one window on the same data and keys; states have a leading axis of 2."""

    def one_arm(arm_theta, state):
        return unroll(problem, arm_theta, state, data, key, length)

    return jax.vmap(one_arm)(arms_of(theta, eps), states)


def directional_gradient(direction: Theta, losses: Float[Array, "2 L"]) -> Theta:
    """direction * mean_r(loss_plus - loss_minus) / 2, the direction being a sum of eps / std^2."""
    difference = jnp.mean(losses[0] - losses[1])
    return jax.tree.map(lambda x: x * difference / 2.0, direction)
