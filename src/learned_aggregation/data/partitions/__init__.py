"""Division of a split over clients, by name.

A partitioner is a function `(labels, clients, num_clients, seed, **options) -> rows`: labels int [N]; clients
int [N], the natural client of each example, or None; rows a list of num_clients arrays of example ids in
which each of the N ids occurs exactly once. It may rely on 1 <= num_clients <= N; see `partition`.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np

from learned_aggregation.data.stratified import quantile_bins
from learned_aggregation.errors import UserError
from learned_aggregation.registry import Registry, nearest

if TYPE_CHECKING:  # listing names must not wait for JAX
    from learned_aggregation.types import Split

_PACKAGED = ("shared", "iid", "dirichlet", "shards", "natural", "quantity")
PARTITIONS = Registry(
    "partition", {name: f"learned_aggregation.data.partitions.{name}:partition" for name in _PACKAGED}
)


def partition(
    name: str,
    labels: np.ndarray,
    clients: np.ndarray | None = None,
    num_clients: int = 1,
    seed: int = 0,
    **options: Any,
) -> list[np.ndarray]:
    """Divides N examples over clients with the partitioner `name`.

    Args:
      name: an entry of PARTITIONS.
      labels: int [N].
      clients: the natural client of each example, int [N]; None if there is none.
      num_clients: C.
      seed: of the division; the same seed gives the same rows.
      options: the partitioner's own (alpha, shards_per_client, min_size).
    Returns:
      C int64 arrays of example ids, together a permutation of 0..N-1, none of them empty.
    Raises:
      UserError: an unknown name or option, or a request that cannot be met.
    """
    function = PARTITIONS[name]
    known = list(inspect.signature(function).parameters)[4:]
    for option in options:
        if option not in known:
            raise UserError(
                f"partition {name}: expected options out of ({', '.join(known)}), got {option!r}."
                f"{nearest(option, known)}"
            )
    if not 1 <= num_clients <= len(labels):
        raise UserError(
            f"partition {name}: expected 1 to {len(labels)} clients, one example each at least, "
            f"got {num_clients!r}. Lower the number of clients."
        )
    rows = function(labels, clients, num_clients, seed, **options)
    return rows if name in _PACKAGED else _checked(name, rows, len(labels), num_clients)


def _checked(name: str, rows: Any, count: int, num_clients: int) -> list[np.ndarray]:
    """The rows of a partitioner from outside.

    Raises:
      UserError: they are no division of the examples.
    """
    try:
        found = [np.asarray(ids) for ids in rows]
        sizes = [
            len(ids) if ids.ndim == 1 and (ids.dtype.kind in "iu" or not len(ids)) else -1 for ids in found
        ]
        ids = np.concatenate(found) if found and min(sizes) > 0 else np.zeros(0, np.int64)
    except (TypeError, ValueError):
        sizes, ids = [], np.zeros(0, np.int64)
    if len(sizes) != num_clients or not np.array_equal(np.sort(ids), np.arange(count)):
        got = f"{len(sizes)} arrays of {min(sizes)} to {max(sizes)}" if sizes else f"{rows!r:.40}"
        raise UserError(
            f"partition {name}: expected {num_clients} arrays of example ids, none empty, in which 0 to {count - 1} "
            f"occur once each, got {got}. Return rows that divide the examples."
        )
    return [ids.astype(np.int64) for ids in found]


def split_labels(split: Split) -> np.ndarray:
    """int [N]: the labels to divide a split by.

    A regression is divided by which tenth of the split's (first) targets an example's is in, so that the skewed
    partitions make clients whose targets differ. The sequences of a text have none and are all of class 0.
    """
    if "label" in split.examples:
        return split.examples["label"]
    if "target" in split.examples:
        return quantile_bins(split.examples["target"][:, 0])
    return np.zeros(len(next(iter(split.examples.values()))), np.int32)


def class_counts(rows: list[np.ndarray], labels: np.ndarray, num_classes: int) -> np.ndarray:
    """The examples of each class at each client: int64 [C, num_classes], with more columns for larger labels."""
    columns = max(num_classes, int(labels.max()) + 1)
    return np.stack([np.bincount(labels[ids], minlength=columns) for ids in rows])
