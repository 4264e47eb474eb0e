"""Classification of the rows of a table: mean cross-entropy and accuracy."""

import jax.numpy as jnp
from flax import linen as nn

from learned_aggregation.tasks.flax_task import CLASS_METRICS, cross_entropy, flax_task, loss_cap
from learned_aggregation.tasks.objectives import Objective
from learned_aggregation.types import Dataset, Task


def tabular_classification(name: str, model: nn.Module, dataset: Dataset) -> Task:
    """A Task on batches {"features": float [B, F], "label": int [B]}.

    loss = -log softmax(model(features))[label], in nats; accuracy: whether the largest logit is the label's. Capped
    at 1.5 ln C.

    Args:
      model: called as model(features, train=bool) -> logits [B, num_classes].
    """
    width = dataset.splits["train"].examples["features"].shape[1]
    return flax_task(
        name,
        model,
        jnp.zeros((1, width)),
        lambda batch: batch["features"],
        lambda logits, batch: cross_entropy(logits, batch["label"]),
        CLASS_METRICS,
        loss_cap(dataset.num_classes),
        (dataset.num_classes,),
    )


OBJECTIVE = Objective(kinds=("table",), outputs=lambda about: about.num_classes, make=tabular_classification)
