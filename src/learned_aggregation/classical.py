"""What the classical rules share: no theta, a check of rates and momenta."""

from collections.abc import Callable
from typing import Any

import jax

from learned_aggregation.averaging import weighted_mean
from learned_aggregation.errors import UserError
from learned_aggregation.types import AggState, Aggregator, ClientUpdate, Key, Params, Theta


def check_range(where: str, option: str, value: Any, low: float, high: float) -> None:
    """Raises a UserError unless low <= value < high; a traced value was checked before."""
    if isinstance(value, (int, float)) and not low <= value < high:
        raise UserError(
            f"{where}: expected {option} in [{low:g}, {high:g}), got {value!r}. Choose one in the range."
        )


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

    return Aggregator(init_theta, init_state, update)
