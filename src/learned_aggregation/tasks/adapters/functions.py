"""Two pure functions."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from learned_aggregation.errors import UserError
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
        params = init(key, example) if takes_example else init(key)
        leaves = jax.tree.leaves(params)
        strange = [leaf for leaf in leaves if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating)]
        if strange or not leaves:
            got = f"a leaf {jnp.result_type(strange[0])}{list(jnp.shape(strange[0]))}" if strange else "none"
            raise UserError(
                f"model: expected init to return params of floats, got {got}. Close over what is not to be trained."
            )
        return params, ()

    def applied(params: Params, state: ModelState, inputs: Array, train: bool, key: Key):
        options = flags(apply, train) | ({"key": key} if takes_key else {})
        return apply(params, inputs, **options), state

    return Model(drawn, applied)
