"""Image classification: mean cross-entropy and accuracy."""

import jax.numpy as jnp
from flax import linen as nn

from learned_aggregation.tasks.flax_task import (
    CLASS_METRICS,
    cross_entropy,
    flax_task,
    image_inputs,
    image_scaling,
    loss_cap,
)
from learned_aggregation.tasks.models.mlp import MLP
from learned_aggregation.tasks.objectives import Objective
from learned_aggregation.tasks.perceptron import PerceptronLoss
from learned_aggregation.types import Dataset, Task


def classification(name: str, model: nn.Module, dataset: Dataset) -> Task:
    """A Task on batches {"image": [B, h, w, c], "label": int [B]}.

    loss = -log softmax(model(image))[label], in nats; accuracy: whether the largest logit is the label's. Capped at
    1.5 ln C.

    Args:
      model: called as model(x, train=bool) -> logits [B, num_classes]; x as `image_inputs` makes it.
    """
    shape = dataset.splits["train"].examples["image"].shape[1:]
    task = flax_task(
        name,
        model,
        jnp.zeros((1, *shape)),
        image_inputs(dataset),
        lambda logits, batch: cross_entropy(logits, batch["label"]),
        CLASS_METRICS,
        loss_cap(dataset.num_classes),
        (dataset.num_classes,),
    )
    if not isinstance(model, MLP):
        return task
    layers = tuple(f"Dense_{i}" for i in range(len(model.widths) + 1))
    return task._replace(loss=PerceptronLoss(task.loss, layers, *image_scaling(dataset)))


OBJECTIVE = Objective(kinds=("image",), outputs=lambda about: about.num_classes, make=classification)
