"""Regression on the rows of a table: mean squared error over standardised targets."""

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array

from learned_aggregation.tasks.flax_task import flax_task
from learned_aggregation.tasks.objectives import Objective
from learned_aggregation.types import Batch, Dataset, Metric, Metrics, Task

METRICS = (
    Metric("loss", unit="squared standard deviations"),
    Metric("mae", unit="standard deviations"),
)

LOSS_CAP = 3.0
"""Three times the loss of the best constant prediction, which is 1. An untrained MLP starts at about 1.5, and about 99
of 100 start below 3; a cap of 1.5 constants, as for classes, would clip half of the untrained models."""


def regression(name: str, model: nn.Module, dataset: Dataset) -> Task:
    """A Task on batches {"features": float [B, F], "target": float [B, D]}.

    z = (target - mean) / deviation, with the mean and the deviation of each target over the train split; of an
    example loss = mean_d (model(features) - z)^2 and mae = mean_d |model(features) - z|. To predict 0, the mean, is a
    loss of exactly 1 on the train split. The cap is LOSS_CAP.

    Args:
      model: called as model(features, train=bool) -> predictions [B, D] of z.
      dataset: a target that does not vary over the train split is centred only.
    """
    train = dataset.splits["train"].examples
    target = np.asarray(train["target"], np.float64)
    deviation = target.std(0)
    mean, deviation = (
        np.asarray(of, np.float32) for of in (target.mean(0), np.where(deviation > 0, deviation, 1.0))
    )

    def measure(predicted: Array, batch: Batch) -> Metrics:
        error = predicted - (batch["target"] - mean) / deviation
        return {"loss": jnp.mean(error**2, axis=-1), "mae": jnp.mean(jnp.abs(error), axis=-1)}

    example = jnp.zeros((1, train["features"].shape[1]))
    shape = (train["target"].shape[1],)
    return flax_task(name, model, example, lambda batch: batch["features"], measure, METRICS, LOSS_CAP, shape)


OBJECTIVE = Objective(kinds=("regression",), outputs=lambda about: about.num_targets, make=regression)
