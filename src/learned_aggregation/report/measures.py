"""What the columns of a run's files measure: their direction and their unit, as the run's tasks said."""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

_COLUMN = re.compile(r"(train|inner_valid|outer_valid|test)_(.+)")
LOGARITHMIC = ("dB",)
"""Units that are logarithms already."""


class Measure(NamedTuple):
    """higher_is_better: whether more is better. unit: "%" is a fraction, shown in per cent; "" a pure number."""

    higher_is_better: bool = False
    unit: str = ""

    @property
    def direction(self) -> int:
        """1 where higher is better, -1 where lower is."""
        return 1 if self.higher_is_better else -1

    @property
    def scale(self) -> float:
        """What a number in a file is shown times."""
        return 100.0 if self.unit == "%" else 1.0

    @property
    def suits_log(self) -> bool:
        """Whether a log axis suits it: what falls towards zero, and is no logarithm already."""
        return not self.higher_is_better and self.unit not in LOGARITHMIC


OLDER = {"accuracy": Measure(higher_is_better=True, unit="%")}
"""What run directories without these facts measured, besides losses."""


class Measures(NamedTuple):
    """by_task: task -> metric -> its measure, in the task's order."""

    by_task: Mapping[str, Mapping[str, Measure]] = MappingProxyType({})

    def of(self, column: str, task: str) -> Measure:
        """The measure behind a column such as test_r2, or test_loss_mean, the mean of a metric over a run."""
        known, name = self.by_task.get(task, OLDER), metric_of(column)
        return known.get(name) or known.get(name.removesuffix("_mean")) or Measure()

    def shared(self, column: str, tasks: Iterable[str] = ()) -> Measure | None:
        """The one measure of a column in all of the tasks (those that have it, where none is named); None where they
        differ."""
        name = metric_of(column)
        asked = list(tasks) or [task for task, known in self.by_task.items() if name in known] or [""]
        found = {self.of(column, task) for task in asked}
        return found.pop() if len(found) == 1 else None


def read_measures(about: Mapping[str, Any]) -> Measures:
    """The measures in run.json's `metrics`; what cannot be read is left out."""
    tasks = about.get("metrics")
    if not isinstance(tasks, dict):
        return Measures()
    return Measures(
        {
            task: {
                str(metric["name"]): Measure(
                    bool(metric.get("higher_is_better")), str(metric.get("unit", ""))
                )
                for metric in listed
                if isinstance(metric, dict) and "name" in metric
            }
            for task, listed in tasks.items()
            if isinstance(listed, list)
        }
    )


def is_metric(column: str) -> bool:
    """Whether a column of rounds.csv or table.csv holds a metric: a split's name, then the metric's."""
    return _COLUMN.fullmatch(column) is not None


def metric_of(column: str) -> str:
    """test_mask_iou -> mask_iou."""
    match = _COLUMN.fullmatch(column)
    return match[2] if match else column


def metric_columns(names: Iterable[str], measures: Measures) -> list[str]:
    """The columns with metrics: test first, then the other splits, training last.

    Those of a split are in the tasks' order; in older run directories the loss first, then in the file's.
    """
    order = {
        name: i for i, name in enumerate({name: 0 for known in measures.by_task.values() for name in known})
    }

    def place(column: str) -> tuple[bool, bool, str, bool, int]:
        name = metric_of(column)
        split = column.removesuffix(f"_{name}")
        return split == "train", split != "test", split, name != "loss", order.get(name, len(order))

    return sorted(filter(is_metric, names), key=place)
