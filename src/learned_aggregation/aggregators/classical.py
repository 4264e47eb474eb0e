"""What the classical rules share: no theta, checks of rates and momenta, the adaptive family's rule."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_aggregation.aggregators.sums import sums_of_mean
from learned_aggregation.errors import UserError
from learned_aggregation.federated.averaging import weighted_mean
from learned_aggregation.types import Aggregator, AggState, ClientUpdate, Key, Params, Theta


def check_range(where: str, option: str, value: Any, low: float, high: float) -> None:
    """Raises a UserError unless low <= value < high; a traced value was checked before."""
    if isinstance(value, (int, float)) and not low <= value < high:
        raise UserError(
            f"{where}: expected {option} in [{low:g}, {high:g}), got {value!r}. Choose one in the range."
        )


def check_positive(where: str, option: str, value: Any) -> None:
    """Raises a UserError unless value > 0 and finite; a traced value was checked before."""
    if isinstance(value, (int, float)) and not 0.0 < value < float("inf"):
        raise UserError(f"{where}: expected {option} above 0, got {value!r}. Choose a positive number.")


def pseudo_gradient(update: ClientUpdate) -> Params:
    """g = -mean_k delta_k, weighted."""
    return jax.tree.map(lambda mean: -mean, weighted_mean(update.delta, update.weight))


def classical(
    init: Callable[[Params], AggState], rule: Callable[[Params, AggState], tuple[Params, AggState]]
) -> Aggregator:
    """An Aggregator with empty theta from a rule on the pseudo-gradient.

    Args:
      init: params -> state.
      rule: (g shaped like params, state) -> (step to add, state).
    """

    def init_theta(key: Key) -> Theta:
        return ()

    def init_state(theta: Theta, params: Params) -> AggState:
        return init(params)

    def update(theta: Theta, client_update: ClientUpdate, agg_state: AggState, params: Params):
        return rule(pseudo_gradient(client_update), agg_state)

    return Aggregator(init_theta, init_state, update, sums=sums_of_mean(update))


class AdaptiveState(NamedTuple):
    """m (first moment) and v (second moment), each shaped like params."""

    m: Params
    v: Params


def adaptive(
    where: str,
    next_v: Callable[[Float[Array, "..."], Float[Array, "..."]], Float[Array, "..."]],
    *,
    learning_rate: float,
    beta1: float,
    tau: float,
) -> Aggregator:
    """The rules of Reddi et al.'s Algorithm 2, which differ in their second moment alone.

    m <- beta1*m + (1 - beta1)*g;  v <- next_v(v, g^2);  params <- params - learning_rate*m/(sqrt(v) + tau).
    m starts at 0 and v at tau^2 (the smallest start that the algorithm admits); no bias correction.

    Args:
      where: the rule's name, for its errors.
      next_v: (v, g^2) -> v, per scalar.
    """
    check_positive(where, "learning_rate", learning_rate)
    check_range(where, "beta1", beta1, 0.0, 1.0)
    check_positive(where, "tau", tau)

    def init(params: Params) -> AdaptiveState:
        v = jax.tree.map(lambda leaf: jnp.full_like(leaf, tau * tau), params)
        return AdaptiveState(jax.tree.map(jnp.zeros_like, params), v)

    def rule(g: Params, state: AdaptiveState):
        m = jax.tree.map(lambda m, x: beta1 * m + (1.0 - beta1) * x, state.m, g)
        v = jax.tree.map(lambda v, x: next_v(v, x * x), state.v, g)
        step = jax.tree.map(lambda m, v: -learning_rate * m / (jnp.sqrt(v) + tau), m, v)
        return step, AdaptiveState(m, v)

    return classical(init, rule)
