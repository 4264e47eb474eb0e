"""Image classification with a flax model: mean cross-entropy and accuracy."""

import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array

from learned_aggregation.tasks.flax_task import flax_task, loss_cap
from learned_aggregation.tasks.models.mlp import MLP
from learned_aggregation.tasks.perceptron import PerceptronLoss
from learned_aggregation.types import Batch, Dataset, Metric, Metrics, Task

METRICS = (Metric("loss", unit="nats"), Metric("accuracy", higher_is_better=True, unit="%"))


def classification(name: str, model: nn.Module, dataset: Dataset) -> Task:
    """A Task on batches {"image": [B, h, w, c], "label": int [B]}.

    Integer images become the model's inputs by `dataset.scale` and `shift`; float images are inputs already.

    Args:
      model: called as model(x, train=bool) -> logits [B, num_classes].
    """
    shape = dataset.splits["train"].examples["image"].shape[1:]
    scale, shift = (np.asarray(value, np.float32) for value in (dataset.scale, dataset.shift))

    def inputs(batch: Batch) -> Array:
        image = batch["image"]
        is_float = jnp.issubdtype(image.dtype, jnp.floating)
        return image if is_float else image.astype(jnp.float32) * scale - shift

    task = flax_task(
        name, model, jnp.zeros((1, *shape)), inputs, _measure, METRICS, loss_cap(dataset.num_classes)
    )
    if not isinstance(model, MLP):
        return task
    layers = tuple(f"Dense_{i}" for i in range(len(model.widths) + 1))
    return task._replace(loss=PerceptronLoss(task.loss, layers, scale, shift))


def _measure(logits: Array, batch: Batch) -> Metrics:
    label = batch["label"]
    return {
        "loss": optax.softmax_cross_entropy_with_integer_labels(logits, label),
        "accuracy": (jnp.argmax(logits, axis=-1) == label).astype(jnp.float32),
    }
