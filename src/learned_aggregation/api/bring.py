"""Objects of a call as the names that a Config holds.

What can be imported is called `package.module:attribute`, so that the run's config.py says where it is from and the
command line can run it again. Anything else (from a notebook, a lambda, an array) has a name for the time of the call.
"""

import re
import sys
from collections.abc import Collection, Mapping
from typing import Any

import jax
import numpy as np

from learned_aggregation.aggregators import AGGREGATORS
from learned_aggregation.config.outside import check_datasets
from learned_aggregation.data import DATASETS, DataOptions
from learned_aggregation.data.partitions import PARTITIONS
from learned_aggregation.data.sources.arrays import fingerprint
from learned_aggregation.data.sources.loading import size_of
from learned_aggregation.errors import UserError
from learned_aggregation.federated.clients import LOCAL_OPTIMIZERS
from learned_aggregation.federated.compressors import COMPRESSORS
from learned_aggregation.meta_training.estimators import ESTIMATORS
from learned_aggregation.runs.trackers import TRACKERS
from learned_aggregation.tasks.names import MODEL_NAMES
from learned_aggregation.tasks.objectives import OBJECTIVES
from learned_aggregation.types import Dataset, Task

KINDS = {
    "optimizer": "optimizer",
    "local_optimizer": "local_optimizer",
    "compressor": "compressor",
    "objective": "objective",
    "partition": "partition",
    "estimator": "estimator",
}
"""Setting -> the registry that it names something of."""

REGISTRIES: dict[str, Collection[str]] = {
    "optimizer": AGGREGATORS,
    "local_optimizer": LOCAL_OPTIMIZERS,
    "compressor": COMPRESSORS,
    "objective": OBJECTIVES,
    "partition": PARTITIONS,
    "estimator": ESTIMATORS,
    "tracker": TRACKERS,
    "model": MODEL_NAMES,
    "data set": DATASETS,
}
"""Kind -> the names that are taken."""

_NAMED = (str, int, float, bool, type(None))


class Bringing:
    """The objects of one call: (kind, name) -> object, for `registry.brought`."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Any] = {}

    def settings(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The settings with names in the place of objects."""
        named = {}
        for setting, value in given.items():
            if setting in KINDS and not isinstance(value, _NAMED):
                value = self.name(KINDS[setting], _callable(setting, value))
            if setting == "tracker" and not isinstance(value, _NAMED):
                several = value if isinstance(value, (list, tuple)) else [value]
                value = [t if isinstance(t, str) else self.name("tracker", t) for t in several]
            named[setting] = value
        return named

    def name(self, kind: str, item: Any, hint: str = "") -> str:
        """A name that stands for the object."""
        if path := _importable(item):
            return path
        text = getattr(item, "__name__", None) or hint or type(item).__name__
        plain = re.sub(r"\W+", "_", text).strip("_") or kind
        name, number = plain, 1
        # A name of the package stays the package's: a comparison may have both.
        while name in REGISTRIES[kind] or self.objects.get((kind, name), item) is not item:
            number += 1
            name = f"{plain}_{number}"
        self.objects[kind, name] = item
        return name

    def task(
        self, task: Any, model: Any, data: Any, size: int | None, datasets: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The settings `task` and `datasets` of a call.

        Args:
          task: a task's name, or a Task with its data; None where there are model and data.
          model: a model's name ("mlp64x64"), or whatever `adapters.as_model` and `construct` take.
          data: a data set's name; an entry of `datasets`; arrays by leaf, "client" among them, whole or by part
            (train, valid, test); or a Dataset.
          size: in the task's name; None: what the data shows.
        Raises:
          UserError: both a task's name and a model, no data, no size and none that the data shows.
        """
        if isinstance(task, str) or (task is None and model is None and data is None):
            if model is not None or data is not None:
                raise UserError(
                    "task: expected a task's name or model and data, got both. Leave one of them out."
                )
            return {} if task is None else {"task": task}
        if task is not None:
            if not isinstance(task, Task) or model is not None:
                got = "model besides" if isinstance(task, Task) else type(task).__name__
                raise UserError(
                    f"task: expected a name, or a Task with data and no model, got {got}. See types.Task."
                )
            model = task
        if model is None or data is None:
            missing = "model" if model is None else "data"
            raise UserError(
                f"{missing}: expected one with {'data' if model is None else 'model'}, got None. Give {missing}=..."
            )
        named = model if isinstance(model, str) else self.name("model", model, "model")
        dataset, entries = self._data(data, datasets)
        if size is None:
            size = self._size(dataset, data, entries)
        return {"task": f"{named}_{dataset}_{size}", "datasets": entries}

    def _data(self, data: Any, datasets: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """(the data set's name, the setting `datasets`)."""
        entries = check_datasets("datasets", datasets)
        if isinstance(data, str):
            return data, entries
        if isinstance(data, Dataset):
            return self.name("data set", data, "data"), entries
        if not isinstance(data, Mapping) or not data:
            raise UserError(
                f"data: expected a name, a dict of arrays, an entry of datasets or a Dataset, got {data!r:.60}. "
                "Write for example data=dict(image=images, label=labels, client=ids)."
            )
        if strange := [key for key in _keys(data) if not isinstance(key, str)]:
            raise UserError(
                f"data: expected names of leaves, or of parts with leaves in them, got {strange[0]!r:.60}. "
                "Write for example data=dict(image=images, label=labels, client=ids)."
            )
        name = next(n for n in ("data", *(f"data_{i}" for i in range(2, 99))) if n not in entries)
        if isinstance(data.get("type"), str):
            return name, entries | check_datasets("datasets", {name: dict(data)})
        arrays = {k: dict(v) if isinstance(v, Mapping) else _host(v) for k, v in data.items()}
        digest = fingerprint(arrays)
        self.objects["arrays", digest] = arrays
        return name, entries | {name: {"type": "arrays", "sha256": digest}}

    def _size(self, name: str, data: Any, entries: Mapping[str, Any]) -> int:
        if name in entries:
            from learned_aggregation.registry import brought

            with brought(self.objects):
                found = size_of(name, entries[name], DataOptions())
        elif isinstance(data, Dataset):
            found = shown_size(data.splits["train"].examples) if "train" in data.splits else None
        else:
            found = None
        if found is None:
            raise UserError(
                f"size: expected one, as {name} comes in several, got None. Give size=..., the side of the images, the "
                "tokens of a sequence or the number of features."
            )
        return found


def _keys(data: Mapping[Any, Any]) -> list[Any]:
    """The names of leaves and of parts."""
    return [*data, *(key for of in data.values() if isinstance(of, Mapping) for key in of)]


def shown_size(examples: Mapping[str, Any]) -> int | None:
    """The size in a task's name that examples have."""
    if "image" in examples:
        return int(examples["image"].shape[1])
    if "tokens" in examples:
        return int(examples["tokens"].shape[1]) - 1
    return int(examples["features"].shape[1]) if "features" in examples else None


def _host(values: Any) -> Any:
    return np.asarray(values) if isinstance(values, jax.Array) else values


def _callable(setting: str, value: Any) -> Any:
    """Rules and compressors are made by functions of their options; one that is made already has none."""
    if callable(value) or setting == "objective":
        return value
    return _Made(value)


class _Made:
    """A function without options that returns an object."""

    def __init__(self, item: Any):
        self._item = item
        self.__name__ = type(item).__name__.lower()

    def __call__(self) -> Any:
        return self._item


def _importable(item: Any) -> str | None:
    """`package.module:attribute` where that is this object for everybody."""
    module, name = getattr(item, "__module__", None), getattr(item, "__qualname__", None)
    if not module or not name or module == "__main__" or "<" in name:
        return None
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return f"{module}:{name}" if found is item else None
