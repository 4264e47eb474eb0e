"""A loss function of the user's as an objective."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array

from learned_aggregation.data import KINDS, Description
from learned_aggregation.errors import UserError
from learned_aggregation.tasks.flax_task import flax_task, image_inputs
from learned_aggregation.tasks.objectives import Objective
from learned_aggregation.types import Batch, Dataset, Metrics, Task

CAP = 3.0
"""Untrained models' losses differ by their seeds; a cap that clips many of them would hide what is learned first."""

Loss = Callable[[Any, Batch], Any]


def own_loss(loss: Loss) -> Objective:
    """The objective whose loss is the mean of `loss` over a batch.

    The meta-loss is capped at CAP times what an untrained model has, so that one diverging problem cannot drown the
    others; a loss that may be negative has no cap.

    Args:
      loss: (outputs, batch) -> losses [B], or a dict of metrics of each example with "loss" among them.
    Raises:
      UserError: while it is traced, if it returns something else.
    """

    def measure(outputs: Array, batch: Batch) -> Metrics:
        found = loss(outputs, batch)
        metrics = found if isinstance(found, dict) else {"loss": found}
        count = len(next(iter(batch.values())))
        shapes = {name: jnp.shape(values) for name, values in metrics.items()}
        if "loss" not in metrics or any(shape != (count,) for shape in shapes.values()):
            raise UserError(
                f"loss {getattr(loss, '__name__', 'of yours')}: expected one loss for each of {count} examples, or a "
                f"dict of such with 'loss', got shapes {shapes}. Leave the mean over the batch out."
            )
        return {name: jnp.asarray(values, jnp.float32) for name, values in metrics.items()}

    def make(name: str, model: nn.Module, dataset: Dataset) -> Task:
        train = dataset.splits["train"].examples
        if "image" in train:
            example, inputs = jnp.zeros((1, *train["image"].shape[1:])), image_inputs(dataset)
        elif "tokens" in train:
            example, inputs = jnp.zeros((1, train["tokens"].shape[1] - 1), jnp.int32), _tokens
        else:
            example, inputs = jnp.zeros((1, *train["features"].shape[1:])), _features
        task = flax_task(name, model, example, inputs, measure)
        return task._replace(loss_cap=_cap(task, train))

    return Objective(tuple(KINDS), _outputs, make)


def _cap(task: Task, examples: Mapping[str, Any]) -> float | None:
    batch = {
        name: jnp.asarray(np.asarray(leaf[np.arange(min(len(leaf), 256))])) for name, leaf in examples.items()
    }
    key = jax.random.key(0)

    @jax.jit
    def untrained(batch: Batch) -> Array:
        return task.evaluate(*task.init(key), key, batch)["loss"]

    losses = np.asarray(untrained(batch))
    return CAP * float(losses.mean()) if losses.min() >= 0 and 0 < losses.mean() < np.inf else None


def _features(batch: Batch) -> Array:
    return batch["features"]


def _tokens(batch: Batch) -> Array:
    return batch["tokens"][:, :-1].astype(jnp.int32)


def _outputs(about: Description) -> int:
    return about.num_targets or about.num_classes or 1
