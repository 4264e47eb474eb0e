"""A Task around a flax module: what all kinds of tasks share."""

from collections.abc import Callable
from typing import cast

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array

from learned_aggregation.types import Batch, Key, Metrics, ModelState, Params, Task


def flax_task(
    name: str,
    model: nn.Module,
    example: Array,
    inputs: Callable[[Batch], Array],
    measure: Callable[[Array, Batch], Metrics],
    num_classes: int,
) -> Task:
    """A Task whose loss is the mean of `measure`'s over the batch.

    Args:
      model: called as model(x, train=bool) -> logits; its collections other than "params" are the model_state,
        which training changes and evaluation reads.
      example: model inputs of the right shape and dtype, [1, ...].
      inputs: batch -> model inputs [B, ...].
      measure: (logits, batch) -> per-example metrics, leaves [B]; one of them is "loss".
    """

    def init(key: Key) -> tuple[Params, ModelState]:
        variables = dict(model.init(key, example, train=False))
        return variables.pop("params"), variables

    def loss(params: Params, model_state: ModelState, key: Key, batch: Batch):
        variables = {"params": params, **model_state}
        applied = model.apply(variables, inputs(batch), train=True, mutable=list(model_state))
        logits, model_state = cast(tuple[Array, ModelState], applied)  # what flax returns with `mutable`
        metrics = {name: jnp.mean(values) for name, values in measure(logits, batch).items()}
        return metrics.pop("loss"), (model_state, metrics)

    def evaluate(params: Params, model_state: ModelState, batch: Batch) -> Metrics:
        logits = model.apply({"params": params, **model_state}, inputs(batch), train=False)
        return measure(cast(Array, logits), batch)

    return Task(name, init, loss, evaluate, num_classes)
