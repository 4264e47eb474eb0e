"""The registry of probes: what is learned from a trained model's features, in one number; computed on the device."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from learned_aggregation.errors import UserError
from learned_aggregation.registry import Registry
from learned_aggregation.types import Batch, Dataset, Key, Metric, ModelState, Params, Task

_HERE = "learned_aggregation.ssl.probes"

PROBES = Registry(
    "probe",
    {
        "linear50": f"{_HERE}.linear:linear50",
        "linear200": f"{_HERE}.linear:linear200",
        "linear": f"{_HERE}.linear:linear",
        "pixels50": f"{_HERE}.linear:pixels50",
        "knn": f"{_HERE}.nearest:knn",
        "finetune": f"{_HERE}.finetune:finetune",
        "scratch": f"{_HERE}.finetune:scratch",
    },
)
"""Name -> (Probed, key) -> accuracy on the test split."""


class Labelled(NamedTuple):
    """Examples with labels: leaves [N, ...]; "image" and "label" among them."""

    batch: Batch
    labels: Int[Array, "N"]


class ProbeData(NamedTuple):
    """What probes learn from (train), choose by (valid) and are measured on (test)."""

    train: Labelled
    valid: Labelled
    test: Labelled


class Sizes(NamedTuple):
    """num_classes: of the labels. chunk: examples computed at once."""

    num_classes: int
    chunk: int


class Probed(NamedTuple):
    """A trained model before its probes.

    features: of train, valid and test, [N, D] each.
    """

    task: Task
    params: Params
    model_state: ModelState
    data: ProbeData
    features: tuple[Array, ...]
    sizes: Sizes


Probe = Callable[[Probed, Key], Float[Array, ""]]


def probe_metrics(names: Sequence[str]) -> tuple[Metric, ...]:
    """Accuracies, shown in per cent."""
    return tuple(Metric(name, higher_is_better=True, unit="%") for name in names)


def check_probes(task: Task, dataset: Dataset) -> None:
    """Refuses a task without features and a data set without labels.

    Raises:
      UserError: either.
    """
    if task.features is None:
        raise UserError(
            f"probes: expected a task with features, such as objective localmim, got {task.name!r}. Leave probes out."
        )
    if "label" not in dataset.splits["train"].examples or not dataset.num_classes:
        raise UserError(
            f"probes: expected a data set with labels, got {dataset.name!r}. Leave probes out, or name another."
        )


def probe_data(
    dataset: Dataset, train: int | None, held_out: Callable[[str], Mapping[str, Any]]
) -> ProbeData:
    """The probes' examples on the device.

    Args:
      train: how many training examples, drawn at random once; None: all.
      held_out: split -> its evaluated examples.
    """
    examples = dataset.splits["train"].examples
    count = len(examples["label"])
    rows = np.sort(np.random.default_rng(0).permutation(count)[: train or count])

    def labelled(found: Mapping[str, Any]) -> Labelled:
        on_device = {name: jnp.asarray(np.asarray(leaf)) for name, leaf in found.items()}
        return Labelled(on_device, on_device["label"].astype(jnp.int32))

    splits = (labelled(held_out(split)) for split in ("outer_valid", "test"))
    return ProbeData(labelled({name: leaf[rows] for name, leaf in examples.items()}), *splits)


def run_probes(
    names: Sequence[str],
    sizes: Sizes,
    data: ProbeData,
    task: Task,
    params: Params,
    model_state: ModelState,
    key: Key,
) -> dict[str, Float[Array, ""]]:
    """ "test_NAME" -> accuracy, of each probe. `key` draws labels and batches; equal keys make runs paired."""
    if task.features is None:
        raise UserError(f"probes: expected a task with features, got {task.name!r}. Leave probes out.")
    of_batch = functools.partial(task.features, params, model_state)
    features = tuple(
        in_chunks(of_batch, part.batch, sizes.chunk) for part in (data.train, data.valid, data.test)
    )
    probed = Probed(task, params, model_state, data, features, sizes)
    return {f"test_{name}": PROBES[name](probed, jax.random.fold_in(key, 7)) for name in names}


def in_chunks(function: Callable[[Batch], Array], batch: Batch, chunk: int) -> Array:
    """function(batch) on so many examples at once, [N, ...]."""
    count = len(batch["image"])
    size = min(chunk, count)
    pieces = -(-count // size)
    rows = jnp.arange(pieces * size) % count
    cut = jax.tree.map(lambda leaf: leaf[rows].reshape(pieces, size, *leaf.shape[1:]), batch)
    found = jax.lax.map(function, cut)
    return found.reshape(pieces * size, *found.shape[2:])[:count]


def balanced(labels: Int[Array, "N"], count: int, key: Key) -> Int[Array, "count"]:
    """The rows of `count` labels, drawn at random with as many of each class as there can be (a difference of one).

    Example:
      >>> import jax, jax.numpy as jnp
      >>> labels = jnp.array([0] * 90 + [1] * 10)
      >>> jnp.bincount(labels[balanced(labels, 8, jax.random.key(0))]).tolist()
      [4, 4]
    """
    noise = jax.random.uniform(key, labels.shape)
    order = jnp.lexsort((noise, labels))
    place = jnp.arange(len(labels)) - jnp.searchsorted(labels[order], labels[order])
    rank = jnp.zeros_like(place).at[order].set(place)
    return jnp.lexsort((noise, rank))[:count]
