"""Two pure functions."""

import inspect
from collections.abc import Callable
from typing import Any

from jaxtyping import Array

from learned_aggregation.tasks.adapters import Model, flags
from learned_aggregation.types import Key, ModelState, Params


def functions_model(init: Callable[..., Any], apply: Callable[..., Any]) -> Model:
    """A model without state.

    Args:
      init: key -> params, or (key, example inputs) -> params.
      apply: (params, inputs) -> outputs; it may also take `train` and `key` by name.
    """
    takes_example = len(inspect.signature(init).parameters) > 1
    takes_key = "key" in inspect.signature(apply).parameters

    def drawn(key: Key, example: Array) -> tuple[Params, ModelState]:
        return (init(key, example) if takes_example else init(key)), ()

    def applied(params: Params, state: ModelState, inputs: Array, train: bool, key: Key):
        options = flags(apply, train) | ({"key": key} if takes_key else {})
        return apply(params, inputs, **options), state

    return Model(drawn, applied)
