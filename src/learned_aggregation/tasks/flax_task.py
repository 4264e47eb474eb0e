"""A Task around a flax module: what all kinds of tasks share."""

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from learned_aggregation.errors import UserError
from learned_aggregation.tasks.adapters import as_model
from learned_aggregation.types import Batch, Dataset, Key, Metric, Metrics, ModelState, Params, Task

CLASS_METRICS = (Metric("loss", unit="nats"), Metric("accuracy", higher_is_better=True, unit="%"))
"""Of `cross_entropy`."""


def loss_cap(num_classes: int) -> float:
    """1.5 ln C: one and a half times the loss of a uniform guess. Source: Joseph et al., 2025, arXiv:2312.02204.

    Raises:
      UserError: one class, of which nothing can be learned.
    """
    if num_classes < 2:
        raise UserError(
            f"data: expected at least 2 classes, got {num_classes}. Give num_classes, or bring a loss that needs none."
        )
    return 1.5 * math.log(num_classes)


def cross_entropy(logits: Float[Array, "*dims C"], label: Int[Array, "*dims"]) -> Metrics:
    """{"loss": -log softmax(logits)[label] in nats, "accuracy": 1 where the largest logit is the label's, else 0}."""
    return {
        "loss": optax.softmax_cross_entropy_with_integer_labels(logits, label),
        "accuracy": (jnp.argmax(logits, axis=-1) == label).astype(jnp.float32),
    }


def image_scaling(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """(scale, shift) of a data set of images, numbers or one for each channel: inputs are image * scale - shift."""
    return np.asarray(dataset.scale, np.float32), np.asarray(dataset.shift, np.float32)


def image_inputs(dataset: Dataset) -> Callable[[Batch], Float[Array, "B h w c"]]:
    """batch {"image": [B, h, w, c], ...} -> model inputs: integers are scaled, floats are inputs already."""
    scale, shift = image_scaling(dataset)

    def inputs(batch: Batch) -> Array:
        image = batch["image"]
        is_float = jnp.issubdtype(image.dtype, jnp.floating)
        return image if is_float else image.astype(jnp.float32) * scale - shift

    return inputs


def flax_task(
    name: str,
    model: Any,
    example: Array,
    inputs: Callable[[Batch], Array],
    measure: Callable[[Array, Batch], Metrics],
    metrics: tuple[Metric, ...] = (Metric("loss"),),
    cap: float | None = None,
    outputs: tuple[int, ...] | None = None,
) -> Task:
    """A Task whose loss is the mean of `measure`'s over the batch.

    Args:
      model: a flax module, called as model(x, train=bool) -> logits, whose collections other than "params" are the
        model_state; or another form that `adapters.as_model` takes.
      example: model inputs of the right shape and dtype, [1, ...].
      inputs: batch -> model inputs [B, ...].
      measure: (logits, batch) -> per-example metrics, leaves [B]; one of them is "loss".
      metrics, cap: of the Task.
      outputs: the shape of an example's outputs that `measure` needs; None: it takes what comes.
    """
    functions = as_model(model)

    def init(key: Key) -> tuple[Params, ModelState]:
        return functions.init(key, example)

    def loss(params: Params, model_state: ModelState, key: Key, batch: Batch):
        logits, model_state = functions.apply(params, model_state, inputs(batch), True, key)
        check_outputs(logits, batch, outputs)
        found = {name: jnp.mean(values) for name, values in measure(logits, batch).items()}
        return found.pop("loss"), (model_state, found)

    def evaluate(params: Params, model_state: ModelState, key: Key, batch: Batch) -> Metrics:
        logits, _ = functions.apply(params, model_state, inputs(batch), False, key)
        check_outputs(logits, batch, outputs)
        return measure(logits, batch)

    return Task(name, init, loss, evaluate, cap, metrics)


def check_outputs(found: Any, batch: Batch, wanted: tuple[int, ...] | None) -> None:
    """Refuses outputs of another shape, which a loss might broadcast, or read past their end, in silence.

    Raises:
      UserError: while it is traced.
    """
    if wanted is None:
        return
    shape = (len(next(iter(batch.values()))), *wanted)
    got = tuple(found.shape) if hasattr(found, "shape") else None
    if got != shape:
        raise UserError(
            f"model: expected outputs {list(shape)} for a batch of {shape[0]}, got "
            f"{type(found).__name__ if got is None else list(got)}. Give it `outputs` numbers for each example, or "
            "bring a loss that reads what it has."
        )
