"""Prediction of the next token: mean cross-entropy a token, and accuracy."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array

from learned_aggregation.tasks.flax_task import cross_entropy, flax_task, loss_cap
from learned_aggregation.tasks.objectives import Objective
from learned_aggregation.types import Batch, Dataset, Metric, Metrics, Task

METRICS = (Metric("loss", unit="nats per token"), Metric("accuracy", higher_is_better=True, unit="%"))


def language_modelling(name: str, model: nn.Module, dataset: Dataset) -> Task:
    """A Task on batches {"tokens": unsigned [B, S+1]}: tokens 0..S-1 are read, tokens 1..S predicted.

    An example's loss is the mean over its S tokens, in nats; the classes are the tokens of the vocabulary.

    Args:
      model: called as model(tokens int32 [B, S], train=bool) -> logits [B, S, vocabulary], causal.
    """
    length = dataset.splits["train"].examples["tokens"].shape[1] - 1

    def inputs(batch: Batch) -> Array:
        return batch["tokens"][:, :-1].astype(jnp.int32)

    example = jnp.zeros((1, length), jnp.int32)
    cap, shape = loss_cap(dataset.num_classes), (length, dataset.num_classes)
    return flax_task(name, model, example, inputs, _measure, METRICS, cap, shape)


def _measure(logits: Array, batch: Batch) -> Metrics:
    found = cross_entropy(logits, batch["tokens"][:, 1:].astype(jnp.int32))
    return {name: jnp.mean(values, axis=-1) for name, values in found.items()}


OBJECTIVE = Objective(kinds=("text",), outputs=lambda about: about.num_classes, make=language_modelling)
