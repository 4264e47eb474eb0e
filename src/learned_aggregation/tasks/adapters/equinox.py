"""Equinox modules: pytrees that are called with one example."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from learned_aggregation.tasks.adapters import Model
from learned_aggregation.types import Key, ModelState, Params


def equinox_model(item: Any | Callable[..., Any]) -> Model:
    """params are the module's float arrays by their paths; there is no model_state (eqx.nn.State is not carried).

    The module is mapped over the examples of a batch. One whose call takes `key` gets a key for each example; at the
    evaluation it is in inference mode.

    Args:
      item: a module, or a function of `key` that makes one.
    """
    makes = inspect.isroutine(item) or inspect.isclass(item) or isinstance(item, functools.partial)

    def made(key: Key) -> Any:
        make: Any = item
        return make(key=key) if makes else item

    def init(key: Key, example: Array) -> tuple[Params, ModelState]:
        return {name: jnp.asarray(leaf) for name, leaf in _named(made(key)) if _is_weight(leaf)}, ()

    def apply(params: Params, state: ModelState, inputs: Array, train: bool, key: Key):
        module = made(key)  # what it draws for its weights is not used, so not computed
        leaves = [params[name] if _is_weight(leaf) else leaf for name, leaf in _named(module)]
        module = jax.tree.unflatten(jax.tree.structure(module), leaves)
        if not train:
            from equinox.nn import inference_mode  # pyright: ignore[reportMissingImports]

            module = inference_mode(module)
        if "key" not in inspect.signature(type(module).__call__).parameters:
            return jax.vmap(module)(inputs), state
        keys = jax.random.split(key, len(inputs))
        return jax.vmap(lambda x, k: module(x, key=k))(inputs, keys), state

    return Model(init, apply)


def _named(module: Any) -> list[tuple[str, Any]]:
    leaves = jax.tree_util.tree_flatten_with_path(module)[0]
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves]


def _is_weight(leaf: Any) -> bool:
    return isinstance(leaf, (jax.Array, np.ndarray)) and jnp.issubdtype(leaf.dtype, jnp.floating)
