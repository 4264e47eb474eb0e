"""flax.nnx modules."""

from collections.abc import Callable
from typing import Any

from flax import nnx
from jaxtyping import Array

from learned_aggregation.tasks.adapters import Model, flags
from learned_aggregation.types import Key, ModelState, Params


def nnx_model(item: nnx.Module | Callable[..., nnx.Module]) -> Model:
    """params are its `nnx.Param`s, model_state its `nnx.BatchStat`s; random layers draw from the key of the local step.

    Args:
      item: a module, or a function of `rngs` that makes one.
    """

    def made(key: Key) -> Any:
        return nnx.clone(item) if isinstance(item, nnx.Module) else item(rngs=nnx.Rngs(key))

    def init(key: Key, example: Array) -> tuple[Params, ModelState]:
        _, params, stats, _ = nnx.split(made(key), nnx.Param, nnx.BatchStat, ...)
        return nnx.to_pure_dict(params), nnx.to_pure_dict(stats)

    def apply(params: Params, state: ModelState, inputs: Array, train: bool, key: Key):
        # What is neither weight nor statistic is made anew; the weights drawn with it are not used, so not computed.
        graph, weights, stats, rest = nnx.split(made(key), nnx.Param, nnx.BatchStat, ...)
        nnx.replace_by_pure_dict(weights, params)
        nnx.replace_by_pure_dict(stats, state)
        module: Any = nnx.merge(graph, weights, stats, rest)
        (module.train if train else module.eval)()
        outputs = module(inputs, **flags(type(module).__call__, train))
        return outputs, nnx.to_pure_dict(nnx.state(module, nnx.BatchStat)) if train else state

    return Model(init, apply)
