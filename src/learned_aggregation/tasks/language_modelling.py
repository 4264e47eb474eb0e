"""Prediction of the next token with a flax model: mean cross-entropy a token, and accuracy."""

import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array

from learned_aggregation.tasks.flax_task import flax_task, loss_cap
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
    return flax_task(name, model, example, inputs, _measure, METRICS, loss_cap(dataset.num_classes))


def _measure(logits: Array, batch: Batch) -> Metrics:
    target = batch["tokens"][:, 1:].astype(jnp.int32)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, target)
    correct = (jnp.argmax(logits, axis=-1) == target).astype(jnp.float32)
    return {"loss": jnp.mean(losses, axis=-1), "accuracy": jnp.mean(correct, axis=-1)}
