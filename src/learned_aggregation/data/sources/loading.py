"""From an entry of `datasets` to a Dataset."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from learned_aggregation.data.alike import check_alike
from learned_aggregation.data.sources import SOURCES, WHOLE, Entry
from learned_aggregation.data.sources.leaves import (
    Leaves,
    are_texts,
    kind_of_leaves,
    leaves_of,
    numbered,
    sequences,
)
from learned_aggregation.data.sources.splits import Rows, canonical, divide
from learned_aggregation.data.sources.stored import Encoded, fitted, fitted_clips
from learned_aggregation.data.videos import SCALE, SHIFT
from learned_aggregation.errors import UserError
from learned_aggregation.types import Dataset, Split

MOST_CLASSES = 2**20


def load_entry(name: str, values: Mapping[str, Any], size: int, options: Any) -> Dataset:
    """The data set that an entry of `datasets` describes, at the size of a task's name.

    Images are cropped to their middle square and resized; features are standardised by the train split's mean and
    deviation; labels and clients that are names get numbers in the order of the alphabet.

    Args:
      size: side of the images, tokens of a sequence, or number of features.
      options: DataOptions.
    Raises:
      UserError: naming the entry, what was expected of its data and what to do.
    """
    where, entry = f"datasets.{name}", Entry(**values)
    read = SOURCES[entry.type](where, entry, options)
    if not isinstance(read, Mapping) or not all(isinstance(columns, Mapping) for columns in read.values()):
        raise UserError(
            f"{where}: expected {entry.type} to return a dict of part -> column -> array, got {read!r:.60}. "
            "Return {'': columns} for data that is not divided."
        )
    parts = {
        part if part == WHOLE else canonical(where, part): leaves_of(where, columns, entry)
        for part, columns in read.items()
    }
    kinds = {kind_of_leaves(leaves) for leaves in parts.values()}
    if len(kinds) != 1:
        raise UserError(
            f"{where}: expected one kind of data in all parts, got {sorted(kinds)}. Check the columns."
        )
    [kind] = kinds
    parts = numbered(where, numbered(where, parts, "label"), "client")
    if (
        kind == "text"
        and entry.num_classes is None
        and any(are_texts(leaves["tokens"]) for leaves in parts.values())
    ):
        entry = entry._replace(num_classes=256)  # bytes
    if kind == "text":
        parts = {part: sequences(where, leaves, size) for part, leaves in parts.items()}
    counts = {part: _count(leaves) for part, leaves in parts.items()}
    rows = divide(where, counts, entry.fractions, entry.seed)

    def taken(of: Rows) -> Split:
        leaves = dict(parts[of.part])
        clients = leaves.pop("client", None)
        examples = {
            leaf: _take(where, leaf, values, of.ids, size, options) for leaf, values in leaves.items()
        }
        return Split(examples, None if clients is None else np.asarray(clients[of.ids], np.int64))

    splits = {split: taken(of) for split, of in rows.items()}
    check_alike(where, splits)
    if kind in ("table", "regression"):
        splits = _standardised(where, splits, size)
    classes = _num_classes(where, kind, parts, entry)
    if kind == "video":
        return Dataset(name, splits, 0, SCALE, SHIFT)
    uint8 = kind == "image" and splits["train"].examples["image"].dtype == np.uint8
    return Dataset(name, splits, classes, 1 / 255 if uint8 else 1.0)


def _count(leaves: Leaves) -> int:
    return len(next(iter(leaves.values())))


def _take(where: str, leaf: str, values: Any, ids: np.ndarray, size: int, options: Any) -> Any:
    if leaf == "video":
        return fitted_clips(where, values, ids, size, options.whole_mb)
    if leaf == "image":
        return fitted(where, values, ids, size, options.whole_mb)
    taken = np.asarray(values)[ids]
    return taken if leaf == "tokens" else taken.astype(_NARROW[taken.dtype.kind])


_NARROW: dict[str, Any] = {"i": np.int32, "u": np.int32, "f": np.float32, "b": np.float32}
"""What a device takes of labels and of further columns."""


def _standardised(where: str, splits: Mapping[str, Split], size: int) -> dict[str, Split]:
    train = splits["train"].examples["features"]
    if train.shape[1] != size:
        raise UserError(
            f"{where}: expected {size} features, as the task's name says, got {train.shape[1]}. "
            f"Change the size in the name to {train.shape[1]}."
        )
    exact = train.astype(np.float64)  # squares of large numbers do not fit float32
    mean, deviation = exact.mean(0), exact.std(0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    return {
        name: split._replace(
            examples=split.examples
            | {"features": ((split.examples["features"] - mean) / deviation).astype(np.float32)}
        )
        for name, split in splits.items()
    }


def _num_classes(where: str, kind: str, parts: Mapping[str, Leaves], entry: Entry) -> int:
    """Of the labels, or of the tokens; 0 where there are none."""
    leaf = "tokens" if kind == "text" else "label"
    columns = [np.asarray(leaves[leaf]) for leaves in parts.values() if leaf in leaves]
    if kind == "regression" or not columns:
        return 0
    low, high = min(int(c.min()) for c in columns), max(int(c.max()) for c in columns)
    most = entry.num_classes or MOST_CLASSES
    if low < 0 or high >= most:
        raise UserError(
            f"{where}: expected {leaf.removesuffix('s')}s from 0 to {most - 1}, got {low} to {high}. "
            f"Number them from 0, or {'raise' if entry.num_classes else 'give'} num_classes."
        )
    return entry.num_classes or high + 1


def size_of(name: str, values: Mapping[str, Any], options: Any) -> int | None:
    """The size in a task's name at which an entry's data is read as it is; None where images lie on disk.

    Raises:
      UserError: as `load_entry`.
    """
    where, entry = f"datasets.{name}", Entry(**values)
    for columns in SOURCES[entry.type](where, entry, options).values():
        leaves = leaves_of(where, columns, entry)
        if "video" in leaves:
            return None
        if "image" in leaves:
            image = leaves["image"]
            return None if isinstance(image, Encoded) else min(image.shape[1:3])
        leaf = leaves["tokens"] if "tokens" in leaves else leaves["features"]
        if leaf.ndim == 1 and "tokens" in leaves:
            return None
        return int(np.prod(leaf.shape[1:])) - ("tokens" in leaves)
    return None
