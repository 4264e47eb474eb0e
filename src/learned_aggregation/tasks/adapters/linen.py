"""flax.linen modules."""

from typing import Any, cast

from flax import linen as nn
from jaxtyping import Array

from learned_aggregation.tasks.adapters import Model, flags
from learned_aggregation.types import Key, ModelState, Params


def linen_model(module: nn.Module) -> Model:
    """A module, or an object with its `init` and `apply`.

    Collections other than "params" are the model_state, which training changes and evaluation reads.

    Dropout and other random layers draw from the key of the local step (the stream "dropout").
    """
    real, plain = isinstance(module, nn.Module), cast(Any, module)
    call = type(module).__call__ if real else plain.apply

    def init(key: Key, example: Array) -> tuple[Params, ModelState]:
        variables = dict(plain.init(key, example, **flags(call, False)))
        return variables.pop("params"), variables

    def apply(params: Params, state: ModelState, inputs: Array, train: bool, key: Key):
        variables = {"params": params, **state}
        if not train:
            return plain.apply(variables, inputs, **flags(call, False)), state
        random = {"rngs": {"dropout": key}} if real and key is not None else {}
        return plain.apply(variables, inputs, mutable=list(state), **random, **flags(call, True))

    return Model(init, apply)
