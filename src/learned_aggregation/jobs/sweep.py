"""`run_type = "sweep"`."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from learned_aggregation import build
from learned_aggregation.atomic import write_atomic
from learned_aggregation.config.resolve import Config, config_text, run_dir
from learned_aggregation.data.digest import data_digest
from learned_aggregation.jobs import sweep_wandb
from learned_aggregation.jobs.finished import Finished
from learned_aggregation.jobs.groups import Group, GroupRunner, group_points
from learned_aggregation.jobs.measures import (
    LOSSES,
    SPLITS,
    measured_by,
    metric_columns,
    sweep_metric,
    task_configs,
)
from learned_aggregation.jobs.range_notes import RangeNotes
from learned_aggregation.meta_testing.points import (
    Point,
    last_values,
    listed,
    on_edge,
    shown,
    sweep_points,
    winner,
)
from learned_aggregation.meta_testing.program import Curves
from learned_aggregation.report.files import numbers, read_csv
from learned_aggregation.report.html import write_report
from learned_aggregation.runs.csv_file import united, write_csv
from learned_aggregation.runs.messages import say
from learned_aggregation.runs.run_directory import RunDirectory, metric_facts, same_run
from learned_aggregation.runs.same_data import check_same_data

POINTS_AT_ONCE = 32
"""Points between two writes of sweep.csv: what a kill can lose."""


def run(config: Config, command: str) -> Finished:
    """Runs every point of `sweep_config` with `num_runs` seeds; writes sweep.csv, best.py and the report.

    A sweep of the same config in the same directory goes on where it was.

    Raises:
      UserError: a point with several tasks, a metric that a task does not have, a directory with another run in it.
    """
    sweep = config.sweep_config or {}
    if config.sweep_engine == "wandb":
        return sweep_wandb.run(config)
    points = sweep_points(sweep, config.seed)
    groups = group_points(replace(config, **_not_a_sweep()), points)
    configs, loader = task_configs(group.config for group in groups), build.Loader()
    theta = build.learned_theta(replace(config, **_not_a_sweep()).changed(points[0]))
    loaded = {task: loader.load(first, task) for task, first in configs.items()}
    measured = measured_by(loaded)
    sweep = {**sweep, "metric": sweep_metric(sweep["metric"], measured)}
    text = config_text(config)
    with same_run(run_dir(config), text, explicit=config.run_dir is not None) as path:
        check_same_data(path, {task: data_digest(data.dataset) for task, data in loaded.items()})
        facts = {"run_type": config.run_type, "name": path.name, "command": command}
        directory = RunDirectory(path, text, facts | {"metrics": metric_facts(measured)})
        tasks = {index: group.config.tasks[0] for group in groups for index in group.points}
        columns = [list(metric_columns(measured[tasks[index]])) for index in range(len(points))]
        seeds = range(config.seed, config.seed + config.num_runs)
        results = Results(path / "sweep.csv", points, seeds, sweep["parameters"], columns)
        ranges = RangeNotes()
        for group in groups:
            task = loader.load(group.config, group.config.tasks[0]).task
            ranges.check(
                group.config.optimizer, [group.config.changed(points[i]) for i in group.points], task
            )
        for group in groups:
            _run_group(group, points, seeds, theta, loader, results)
        summary = _summary(sweep, points, results)
        write_atomic(path / "sweep.json", json.dumps(summary, indent=2, allow_nan=False) + "\n")
        _write_best(path / "best.py", config, summary["winner"])
        directory.finish(notes=[_note(config, points, summary), *ranges.notes])
        say(_note(config, points, summary))
        best = f"best: {path / 'best.py'}  " if summary["winner"] is not None else ""
        say(f"{best}report: {write_report(path)}")
        return Finished(0, path)


def _write_best(path: Path, config: Config, best: Point | None) -> None:
    """The winner as a config; none where every point diverged."""
    if best is None:
        path.unlink(missing_ok=True)
        return
    write_atomic(path, config_text(replace(config, **_not_a_sweep()).changed(best)))


def _not_a_sweep() -> dict[str, Any]:
    return {"run_type": "benchmark", "sweep_config": None, "run_dir": None, "name": None}


class Results:
    """sweep.csv: one row for each point and seed, rewritten atomically whenever points are added.

    A run has diverged where a loss is not finite.

    Args:
      path: of the file; rows of an earlier, interrupted run of the same sweep are kept. A point counts as run where
        each of its seeds has a row as it is written here: rows that are not, and those of a point without all of them,
        are dropped, and the point runs again.
      points, seeds: of the sweep.
      parameters: the swept settings.
      metrics: of each point, the columns of its results; those of other points' tasks are empty in its rows.
    """

    def __init__(
        self,
        path: Path,
        points: Sequence[Point],
        seeds: Sequence[int],
        parameters: Iterable[str],
        metrics: Sequence[Iterable[str]],
    ):
        self._path, self._points, self._seeds = path, points, seeds
        self._metrics = [list(names) for names in metrics]
        self._columns = ["point", *parameters, "seed", *united(self._metrics), "diverged"]
        found, lines = self._read()
        by_point: dict[int, list[dict[str, Any]]] = {}
        for (index, _), row in found.items():
            by_point.setdefault(index, []).append(row)
        whole = [rows for rows in by_point.values() if len(rows) == len(seeds)]
        self._rows = [row for rows in whole for row in rows]
        if len(self._rows) < lines:
            say(
                f"{path}: {lines - len(self._rows)} of its rows are not of a whole point; these points run again"
            )

    def _read(self) -> tuple[dict[tuple[int, int], dict[str, Any]], int]:
        """((point, seed) -> row) of the rows as they are written here, and the number of rows there are."""
        table = read_csv(self._path)
        if table is None or list(table.columns) != self._columns:
            return {}, 0 if table is None else len(table) + table.skipped
        rows = (
            dict(zip(table.columns, cells, strict=True))
            for cells in zip(*table.columns.values(), strict=True)
        )
        ours = self._is_ours(len(self._points), set(map(str, self._seeds)))
        found = {(int(row["point"]), int(row["seed"])): row for row in rows if ours(row)}
        return found, len(table) + table.skipped

    def _is_ours(self, num_points: int, seeds: set[str]) -> Callable[[Mapping[str, str]], bool]:
        """Whether a row has every cell that `add` writes, and each of its kind."""
        indices = {str(index): index for index in range(num_points)}

        def check(row: Mapping[str, str]) -> bool:
            index = indices.get(row["point"])
            if index is None or row["seed"] not in seeds or row["diverged"] not in ("True", "False"):
                return False
            settings = all(row[name] == _cell(value) for name, value in self._points[index].items())
            return settings and bool(numbers([row[name] for name in self._metrics[index]])[1].all())

        return check

    def done(self) -> set[int]:
        """The indices of the finished points."""
        return {int(row["point"]) for row in self._rows}

    def add(self, index: int, point: Point, seeds: Sequence[int], curves: Curves) -> None:
        """Adds a point's runs; `write` makes them last."""
        last = {"train_loss": curves.train_loss[:, -1]}
        last |= {name: values[:, -1] for name, values in curves.evaluated.items()}
        for job, seed in enumerate(seeds):
            found = {name: str(np.float32(values[job])) for name, values in last.items()}
            diverged = not all(np.isfinite(last[name][job]) for name in LOSSES)
            self._rows.append({"point": index, **point, "seed": seed, **found, "diverged": diverged})

    def write(self) -> None:
        self._rows.sort(key=lambda row: (int(row["point"]), int(row["seed"])))
        remedy = "run the same command again: finished points are kept"
        write_csv(self._path, self._columns, self._rows, then=remedy)

    def mean(self, metric: str, num_points: int) -> list[float]:
        """Each point's mean of a metric over its seeds; inf for a point with a diverged run."""
        scores: list[list[float]] = [[] for _ in range(num_points)]
        for row in self._rows:
            diverged = str(row["diverged"]) == "True"  # a row that was read back is text
            scores[int(row["point"])].append(np.nan if diverged else float(row[metric]))
        return [float(np.mean(last_values(np.array(values)[:, None]))) for values in scores]


def _cell(value: Any) -> str:
    """As the csv module writes it."""
    return "" if value is None else str(value)


def _run_group(
    group: Group,
    points: Sequence[Point],
    seeds: Sequence[int],
    theta: Any,
    loader: build.Loader,
    results: Results,
) -> None:
    """Runs the group's unfinished points, in batches of one size (hence one compilation)."""
    batches = -(-len(group.points) // POINTS_AT_ONCE)
    done = results.done()
    todo = [
        batch.tolist()
        for batch in np.array_split(group.points, batches)
        if not done.issuperset(batch.tolist())
    ]
    if not todo:
        return
    size = -(-len(group.points) // batches)
    [task] = group.config.tasks
    runner = GroupRunner(group.config, loader.load(group.config, task), theta, SPLITS)
    for batch in todo:
        filled = [points[i] for i in batch] + [points[batch[-1]]] * (size - len(batch))
        what = (
            f"sweep, points {len(results.done()) + 1} to {len(results.done()) + len(batch)} of {len(points)}"
        )
        for index, curves in zip(batch, runner.run(filled, seeds, what), strict=False):
            if index not in done:
                results.add(index, points[index], seeds, curves)
        results.write()


def _summary(sweep: Mapping[str, Any], points: Sequence[Point], results: Results) -> dict[str, Any]:
    metric = sweep["metric"]
    scores = results.mean(metric["name"], len(points))
    best = winner(scores, metric["goal"] == "minimize")
    about = {"parameters": list(sweep["parameters"]), "metric": metric}
    if best is None:  # every point has a run that diverged
        return about | {"winner": None, "winner_score": None, "on_edge": []}
    edges = on_edge(points[best], listed(sweep))
    return about | {"winner": points[best], "winner_score": scores[best], "on_edge": edges}


def _note(config: Config, points: Sequence[Point], summary: Mapping[str, Any]) -> str:
    text = (
        f"{config.optimizer} on {', '.join(config.tasks)}: {len(points)} points x {config.num_runs} seeds, "
    )
    if summary["winner"] is None:
        return f"{text}no winner: in every point a run diverged; sweep lower rates"
    score = f"mean {summary['metric']['name']} {summary['winner_score']:.4f}"
    text += f"best {shown(summary['winner'])} with {score}"
    if summary["on_edge"]:
        text += f"; {', '.join(summary['on_edge'])} at the edge of its grid: widen it"
    return text
