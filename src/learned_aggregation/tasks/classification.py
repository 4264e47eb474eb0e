"""Image classification with a flax model: mean cross-entropy and accuracy."""

from typing import cast

import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array

from learned_aggregation.types import Batch, Dataset, Key, ModelState, Params, Task


def classification(name: str, model: nn.Module, dataset: Dataset) -> Task:
    """A Task on batches {"image": [B, h, w, c], "label": int [B]}.

    Integer images are scaled to the model's inputs by `dataset.scale`; float images are inputs already.

    Args:
      model: called as model(x, train=bool) -> logits [B, num_classes]; its collections other than "params"
        are the model_state.
    """
    image_shape = dataset.splits["train"].examples["image"].shape[1:]

    def inputs(image: Array) -> Array:
        is_float = jnp.issubdtype(image.dtype, jnp.floating)
        return image if is_float else image.astype(jnp.float32) * dataset.scale

    def init(key: Key) -> tuple[Params, ModelState]:
        variables = dict(model.init(key, jnp.zeros((1, *image_shape)), train=False))
        return variables.pop("params"), variables

    def loss(params: Params, model_state: ModelState, key: Key, batch: Batch):
        variables = {"params": params, **model_state}
        applied = model.apply(variables, inputs(batch["image"]), train=True, mutable=list(model_state))
        logits, model_state = cast(tuple[Array, ModelState], applied)  # what flax returns with `mutable`
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
        return jnp.mean(losses), (model_state, {"accuracy": jnp.mean(_correct(logits, batch["label"]))})

    def evaluate(params: Params, model_state: ModelState, batch: Batch):
        variables = {"params": params, **model_state}
        logits = cast(Array, model.apply(variables, inputs(batch["image"]), train=False))
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
        return {"loss": losses, "accuracy": _correct(logits, batch["label"])}

    return Task(name, init, loss, evaluate, dataset.num_classes)


def _correct(logits: Array, label: Array) -> Array:
    return (jnp.argmax(logits, axis=-1) == label).astype(jnp.float32)
