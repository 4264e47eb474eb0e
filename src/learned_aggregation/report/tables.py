"""The tables of a report as plain data."""

import itertools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from learned_aggregation.report.files import Csv, numbers
from learned_aggregation.report.formats import (
    format_bits,
    format_bytes,
    format_estimate,
    format_number,
    format_settings,
    goal,
    metric_heading,
)
from learned_aggregation.report.measures import Measure, Measures, is_metric
from learned_aggregation.report.statistics import (
    Curve,
    Estimate,
    by_task,
    estimate,
    interval95,
    per_round,
    unique,
)

HEADINGS = {"entrant": "method"}
"""Columns of table.csv that are named as the config's keys are, in the words of a report."""


class Sent(NamedTuple):
    """How what was sent is shown: the heading of a table's column, and an amount as text."""

    heading: str
    shown: Callable[[float], str]


SENT = {
    "bytes": Sent("Bytes per round", format_bytes),
    "bits": Sent("Bits per client per round", format_bits),
}
SHOWN_ROUNDS = (0, 1, 5, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000)


class Cell(NamedTuple):
    """One cell; `best` marks the best value of its column within its group of rows."""

    text: str
    best: bool = False
    number: bool = True


class Table(NamedTuple):
    """A table as data. `sections`: the index of the row that opens a group of rows -> the group's heading."""

    title: str
    headings: list[str]
    rows: list[list[Cell]]
    sections: Mapping[int, str] = MappingProxyType({})
    note: str = ""


def mark_best(cells: list[Cell], values: list[float], direction: int) -> list[Cell]:
    """Marks the best finite values of a column; none where all are equal or there is no direction."""
    scores = [direction * value for value in values if np.isfinite(value)]
    if (
        not direction
        or len(values) < 2
        or not scores
        or (len(scores) == len(values) and min(scores) == max(scores))
    ):
        return cells
    return [c._replace(best=bool(direction * v == max(scores))) for c, v in zip(cells, values, strict=True)]


def final_table(items: list[Curve]) -> Table:
    """Last values of every optimizer on every task, mean and 95 % interval over seeds."""
    shared, rows, sections = shared_measures(items), [], {}
    costs = [unit for unit in SENT if any(getattr(item, unit) is not None for item in items)]
    for task, members in by_task(items).items():
        sections[len(rows)] = task
        optimizers = unique(item.optimizer for item in members)
        found = {(item.optimizer, item.metric): item for item in members}
        columns = [[Cell(name, number=False) for name in optimizers]]
        sets = [[item for item in members if item.optimizer == name] for name in optimizers]
        columns.append([Cell(str(max(len(item.values) for item in curves))) for curves in sets])
        columns.append([Cell(format_number(max(item.rounds[-1] for item in curves))) for curves in sets])
        for metric, common in shared.items():
            measure = next((item.measure for item in members if item.metric == metric), Measure())
            last = [final_estimate(found.get((name, metric))) for name in optimizers]
            cells = [Cell(format_estimate(value, measure, with_unit=common is None)) for value in last]
            columns.append(mark_best(cells, [value.mean for value in last], measure.direction))
        for unit in costs:
            amounts = [per_round(curves, unit) for curves in sets]
            columns.append([Cell("–" if x is None else SENT[unit].shown(x)) for x in amounts])
        rows += [list(row) for row in zip(*columns, strict=True)]
    names = ["Optimizer", "Seeds", "Rounds"]
    names += [metric_heading(metric, common) for metric, common in shared.items()]
    names += [SENT[unit].heading for unit in costs]
    note = "Values at the last round: mean ± 95 % interval over the seeds."
    return title_single_task(Table("Summary", names, rows, sections, note))


def shared_measures(items: list[Curve]) -> dict[str, Measure | None]:
    """metric -> its measure, None where the tasks measure it differently."""
    found: dict[str, set[Measure]] = {}
    for item in items:
        found.setdefault(item.metric, set()).add(item.measure)
    return {metric: next(iter(all_)) if len(all_) == 1 else None for metric, all_ in found.items()}


def title_single_task(table: Table) -> Table:
    """Moves the heading of a table's only group into its title."""
    if len(table.sections) != 1:
        return table
    title = ": ".join(filter(None, [table.title, *table.sections.values()]))
    return table._replace(title=title, sections={})


def final_estimate(item: Curve | None) -> Estimate:
    """The last value of a curve; a seed that ever diverged has diverged."""
    if item is None:
        return Estimate(np.nan, np.nan, 0)
    ever = ~np.isfinite(item.values).all(axis=1)
    return estimate(np.where(ever, np.nan, item.values[:, -1]))


def rounds_table(
    items: list[Curve], task: str, metrics: list[str], spread=interval95, note="95 % interval"
) -> Table:
    """Metrics by round, the optimizers of one task side by side; a dash: not evaluated."""
    members = [item for item in items if item.task == task and item.metric in metrics]
    measures = {item.metric: item.measure for item in members}
    metrics = [name for name in metrics if name in measures]
    optimizers, found = (
        unique(item.optimizer for item in members),
        {(i.optimizer, i.metric): i for i in members},
    )
    rows, sections = [], {}
    for shown in shown_rounds(members):
        present = [
            name for name in optimizers if any(has_round(found.get((name, m)), shown) for m in metrics)
        ]
        columns = [
            [Cell(format_number(shown))] * len(present),
            [Cell(name, number=False) for name in present],
        ]
        for metric in metrics:
            values = [at_round(found.get((name, metric)), shown, spread) for name in present]
            cells = [Cell(format_estimate(value, measures[metric])) for value in values]
            direction = measures[metric].direction if shown else 0
            columns.append(mark_best(cells, [value.mean for value in values], direction))
        columns.append(
            [Cell(str(max(len(i.values) for i in members if i.optimizer == name))) for name in present]
        )
        sections[len(rows)] = ""
        rows += [list(row) for row in zip(*columns, strict=True)]
    names = ["Round", "Optimizer", *(metric_heading(name, measures[name]) for name in metrics), "Seeds"]
    return Table(task or "By round", names, rows, sections, f"Mean ± {note} over the seeds.")


def shown_rounds(items: list[Curve]) -> list[float]:
    """The rounds nearest to SHOWN_ROUNDS, and the last, of those of the metric evaluated most rarely."""
    by_metric: dict[str, set[float]] = {}
    for item in items:
        by_metric.setdefault(item.metric, set()).update(item.rounds.tolist())
    rounds = sorted(min(by_metric.values(), key=len, default=()))
    if not rounds:
        return []
    wanted = [shown for shown in SHOWN_ROUNDS if rounds[0] <= shown <= rounds[-1]]
    return sorted({min(rounds, key=lambda r: abs(r - shown)) for shown in wanted} | {rounds[0], rounds[-1]})


def has_round(item: Curve | None, shown: float) -> bool:
    """Whether the curve has a value at that round."""
    return item is not None and bool((item.rounds == shown).any())


def at_round(item: Curve | None, shown: float, spread: Callable[[np.ndarray], np.ndarray]) -> Estimate:
    """The estimate at a round; a count of 0 where there is none."""
    if item is None or shown not in item.rounds:
        return Estimate(np.nan, np.nan, 0)
    return estimate(item.values[:, item.rounds == shown][:, 0], spread)


def comparison_table(table: Csv, note: str = "", measures: Measures | None = None) -> Table:
    """table.csv: a value and its interval (`x_ci95`, or `x_low` and `x_high`) in one cell, each task's best marked.

    The method (`entrant`) comes first, what was tuned last: the longest column would push the results out of sight.

    Args:
      measures: of the run's tasks; None is those of older run directories.
    """
    measures = measures or Measures()
    names = [name for name in table.columns if name != "task" and not is_spread(name, table)]
    names.sort(key=lambda name: (name == "tuned") - (name == "entrant"))
    tasks = table.column("task")
    order = sorted(range(len(table)), key=lambda row: unique(tasks).index(tasks[row]))
    sections = {[tasks[row] for row in order].index(task): task for task in unique(tasks)}
    columns, headings = [], []
    for name in names:
        common = measures.shared(name, having(table, name)) if is_metric(name) else None
        values = numbers([table.columns[name][row] for row in order])[0]
        cells: list[Cell] = []
        for start, stop in itertools.pairwise([*sections, len(order)]):
            measure = measures.of(name, sections[start]) if is_metric(name) else None
            part = [comparison_cell(table, name, row, measure, common is None) for row in order[start:stop]]
            direction = measure.direction if measure else goal(name)
            cells += mark_best(part, list(values[start:stop]), direction)
        columns.append(cells)
        headings.append(metric_heading(HEADINGS.get(name, name), common))
    rows = [list(row) for row in zip(*columns, strict=True)]
    note = note or "± or [low, high]: 95 % interval over the seeds."
    return title_single_task(Table("Comparison", headings, rows, sections, note))


def is_spread(name: str, table: Csv) -> bool:
    """Whether a column of table.csv is the interval of another column; a metric's is x_ci95 only."""
    value, _, kind = name.rpartition("_")
    return kind in (("ci95",) if is_metric(name) else ("ci95", "low", "high")) and value in table.columns


def having(table: Csv, name: str) -> list[str]:
    """The tasks with a value in a column."""
    return unique(task for task, cell in zip(table.column("task"), table.columns[name], strict=True) if cell)


def comparison_cell(
    table: Csv, name: str, row: int, measure: Measure | None = None, with_unit: bool = False
) -> Cell:
    """One cell of table.csv, formatted after what its column holds: a metric with its `measure`, or anything else."""
    text = table.columns[name][row].strip()
    (value, error, low, high), (present, *_) = numbers(
        [text, *(table.column(f"{name}_{kind}")[row] for kind in ("ci95", "low", "high"))]
    )
    if measure:
        if not present:
            return Cell("–")
        if not np.isfinite(value):
            return Cell("diverged")
        return Cell(format_estimate(Estimate(value, error, 1), measure, with_unit))
    race = name.startswith(("rounds_to", "speedup")) or "_to_" in name
    if race and (not np.isfinite(value) or (value == 0 and name.startswith("speedup"))):
        return Cell("not reached")
    if not present:
        return Cell(format_settings(text) or "–", number=bool(goal(name)))
    kinds = {"bytes": format_bytes, "bits": format_bits, "speedup": "{:.3g}×".format}
    shown = kinds.get(name.partition("_")[0], format_number)
    spread = f" ± {shown(error)}" if np.isfinite(error) else ""
    return Cell(shown(value) + spread + ("" if np.isnan(low + high) else f" [{shown(low)}, {shown(high)}]"))
