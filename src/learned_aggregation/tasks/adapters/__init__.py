"""Models of other libraries, and pure functions, as the two functions that a task is made of.

A form is recognised by what it is, and its library is imported only where it is used.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Array

from learned_aggregation.errors import UserError
from learned_aggregation.tasks.construct import parameters_of
from learned_aggregation.types import Key, ModelState, Params


class Model(NamedTuple):
    """A model as pure functions.

    init: (key, example inputs [1, ...]) -> (params, model_state).
    apply: (params, model_state, inputs [B, ...], train, key) -> (outputs [B, ...], model_state).
    """

    init: Callable[[Key, Array], tuple[Params, ModelState]]
    apply: Callable[[Params, ModelState, Array, bool, Key], tuple[Array, ModelState]]


def as_model(item: Any) -> Model:
    """The model that an object is.

    Args:
      item: a flax.linen module, or an object with its `init` and `apply`; a flax.nnx or equinox module, or a function
        of `rngs` or `key` that makes one (a module that is made already begins every run with its weights); a pair
        (init, apply) of functions: init(key) -> params and apply(params, inputs) -> outputs.
    Raises:
      UserError: none of these.

    Example:
      >>> import jax.numpy as jnp
      >>> model = as_model((lambda key: {"w": jnp.ones((3, 2))}, lambda params, x: x @ params["w"]))
      >>> params, state = model.init(None, None)
      >>> model.apply(params, state, jnp.ones((1, 3)), True, None)[0].tolist()
      [[3.0, 3.0]]
    """
    if isinstance(item, Model):
        return item
    libraries, pair = _libraries(item), isinstance(item, tuple)
    if "flax.linen" in libraries or (hasattr(item, "apply") and not pair):
        from learned_aggregation.tasks.adapters.linen import linen_model

        return linen_model(item)
    if "rngs" in _parameters(item) or "flax.nnx" in libraries:
        from learned_aggregation.tasks.adapters.nnx import nnx_model

        return nnx_model(item)
    if "key" in _parameters(item) or "equinox" in libraries:
        from learned_aggregation.tasks.adapters.equinox import equinox_model

        return equinox_model(item)
    if pair and len(item) == 2 and all(map(callable, item)):
        from learned_aggregation.tasks.adapters.functions import functions_model

        return functions_model(*item)
    raise UserError(
        f"model: expected a flax or equinox module, or a pair of functions (init, apply), got {type(item).__name__}. "
        "Wrap it in such a pair."
    )


def _libraries(item: Any) -> set[str]:
    """Which of the libraries its classes are of."""
    bases = {base.__module__ for base in type(item).__mro__}
    starts = ("flax.linen", "flax.nnx", "equinox")
    return {start for start in starts if any(base == start or base.startswith(f"{start}.") for base in bases)}


def _parameters(item: Any) -> set[str]:
    if not (isinstance(item, functools.partial) or inspect.isroutine(item) or inspect.isclass(item)):
        return set()
    return {parameter.name for parameter in parameters_of(item)}


def flags(function: Callable, train: bool) -> dict[str, bool]:
    """How a model's call is told whether it trains, under the name that it has for it.

    Example:
      >>> flags(lambda x, deterministic: x, True)
      {'deterministic': False}
    """
    names = inspect.signature(function).parameters
    told = {"train": train, "training": train, "is_training": train, "deterministic": not train}
    return {name: value for name, value in told.items() if name in names}
