"""A model's metrics on a whole split, on the device, in chunks of bounded memory."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_aggregation.types import Batch, Metric, Metrics, ModelState, Params, Task


def measured(task: Task, examples: Mapping[str, Any]) -> tuple[Metric, ...]:
    """What `task.evaluate` returns: the metrics that the task lists, in its order, then any others.

    Args:
      examples: of a split, leaves [N, ...]; only their shapes and dtypes are read.
    """
    # Two where there are two: an objective may compare examples, and refuses one alone.
    batch = {
        n: jax.ShapeDtypeStruct((min(2, leaf.shape[0]), *leaf.shape[1:]), leaf.dtype)
        for n, leaf in examples.items()
    }
    key = jax.random.key(0)
    params, model_state = jax.eval_shape(task.init, key)
    found = jax.eval_shape(task.evaluate, params, model_state, key, batch)
    listed = [metric for metric in task.metrics if metric.name in found]
    others = sorted(set(found) - {metric.name for metric in listed})
    return (*listed, *map(Metric, others))


def chunked(examples: Batch, chunk: int) -> tuple[Batch, Float[Array, "n chunk"]]:
    """Splits N examples into n chunks of equal size, padded with repeats.

    Returns:
      (leaves [n, chunk, ...], mask [n, chunk]: 1 for an example, 0 for padding).
    """
    count = jax.tree.leaves(examples)[0].shape[0]
    chunk = min(chunk, count)
    num_chunks = -(-count // chunk)
    rows = jnp.arange(num_chunks * chunk)
    mask = (rows < count).astype(jnp.float32).reshape(num_chunks, chunk)
    rows = (rows % count).reshape(num_chunks, chunk)
    return jax.tree.map(lambda leaf: leaf[rows], examples), mask


def evaluate_split(
    task: Task, params: Params, model_state: ModelState, chunks: Batch, mask: Float[Array, "n chunk"]
) -> Metrics:
    """The mean of each of the task's metrics over a split made by `chunked`; scalars.

    What the objective draws (masks, noise) is the same at every evaluation, so that curves are paired.
    """
    keys = jax.random.split(jax.random.key(0), mask.shape[0])

    def add(totals, inputs):
        batch, weight, key = inputs
        metrics = task.evaluate(params, model_state, key, batch)
        return jax.tree.map(lambda total, m: total + jnp.sum(m * weight), totals, metrics), None

    first = jax.tree.map(lambda leaf: leaf[0], chunks)
    shapes = jax.eval_shape(task.evaluate, params, model_state, keys[0], first)
    totals, _ = jax.lax.scan(add, jax.tree.map(lambda _: jnp.float32(0), shapes), (chunks, mask, keys))
    return jax.tree.map(lambda total: total / jnp.sum(mask), totals)
