"""The gradient of one window of rounds in theta, by a scan forward and a scan back."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_aggregation.types import InnerProblem, Key, Theta


def window_gradient(
    problem: InnerProblem, theta: Theta, state: Any, data: Any, key: Key, length: int
) -> tuple[Theta, Any, Float[Array, ""]]:
    """d/dtheta of the mean meta-loss of `length` rounds from `state`, which is held constant.

    With s_r the state before round r and m = 1 / length, the reverse pass is

        a_r = (ds_{r+1}/ds_r)' a_{r+1} + m dloss_r/ds_r
        gradient = sum_r (ds_{r+1}/dtheta)' a_{r+1} + m dloss_r/dtheta

    Equal to jax.grad of `unroll` up to rounding. The forward pass runs what nobody differentiates, kernels where there
    are some, and keeps the states alone; a round is computed again when its turn comes. jax.grad of rematerialised
    rounds would run the slower differentiable form forward too.

    Returns:
      (gradient, the state after the window, the mean meta-loss).

    Example:
      >>> import jax, jax.numpy as jnp
      >>> advance = lambda theta, state, data, key: (theta * state, theta * state)
      >>> problem = InnerProblem(lambda theta, data, key: jnp.float32(1.0), advance)
      >>> gradient, end, loss = window_gradient(problem, jnp.float32(2.0), jnp.float32(1.0), (), jax.random.key(0), 2)
      >>> float(gradient), float(end), float(loss)  # of (theta + theta^2) / 2
      (2.5, 4.0, 3.0)
    """
    keys = jax.random.split(key, length)

    def forward(state: Any, round_key: Key):
        after, loss = problem.advance(theta, state, data, round_key)
        return after, (state, loss)

    end, (states, losses) = jax.lax.scan(forward, state, keys)

    def back(carry: tuple[Any, Theta], inputs: tuple[Any, Key]):
        (of_state, total), (before, round_key) = carry, inputs
        leaves, tree = jax.tree.flatten(before)

        def one_round(theta: Theta, numbers: list[Array]):
            after, loss = problem.advance(theta, tree.unflatten(_with(leaves, numbers)), data, round_key)
            return _numbers(after), loss

        _, pull = jax.vjp(one_round, theta, _numbers(before))
        of_theta, of_state = pull((of_state, jnp.float32(1.0 / length)))
        return (of_state, jax.tree.map(jnp.add, total, of_theta)), None

    nothing = jax.tree.map(jnp.zeros_like, (_numbers(end), theta))
    (_, gradient), _ = jax.lax.scan(back, nothing, (states, keys), reverse=True)
    return gradient, end, jnp.mean(losses)


def _is_number(leaf: Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


def _numbers(tree: Any) -> list[Array]:
    """The leaves that have derivatives: no keys, no counters."""
    return [leaf for leaf in jax.tree.leaves(tree) if _is_number(leaf)]


def _with(leaves: list[Array], numbers: list[Array]) -> list[Array]:
    """`leaves` with `numbers` in the place of those that have derivatives."""
    rest = iter(numbers)
    return [next(rest) if _is_number(leaf) else leaf for leaf in leaves]
