"""`run_type = "sweep"`."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from learned_aggregation import build
from learned_aggregation.atomic import write_atomic
from learned_aggregation.config.resolve import Config, config_text, run_dir
from learned_aggregation.jobs import sweep_wandb
from learned_aggregation.jobs.groups import Group, GroupRunner, group_points, say
from learned_aggregation.jobs.measures import (
    SPLITS,
    measured_by,
    metric_columns,
    sweep_metric,
    task_configs,
)
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
from learned_aggregation.report.html import write_report
from learned_aggregation.runs.csv_file import united, write_csv
from learned_aggregation.runs.run_directory import RunDirectory, metric_facts, same_run

LOSSES = ("train_loss", "outer_valid_loss", "test_loss")
POINTS_AT_ONCE = 32
"""Points between two writes of sweep.csv: what a kill can lose."""


def run(config: Config, command: str) -> int:
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
    measured = measured_by({task: loader.load(first, task) for task, first in configs.items()})
    sweep = {**sweep, "metric": sweep_metric(sweep["metric"], measured)}
    text = config_text(config)
    with same_run(run_dir(config), text, explicit=config.run_dir is not None) as path:
        facts = {"run_type": config.run_type, "name": path.name, "command": command}
        directory = RunDirectory(path, text, facts | {"metrics": metric_facts(measured)})
        columns = united(metric_columns(metrics) for metrics in measured.values())
        results = Results(path / "sweep.csv", sweep["parameters"], columns)
        seeds = range(config.seed, config.seed + config.num_runs)
        for group in groups:
            _run_group(group, points, seeds, theta, loader, results)
        summary = _summary(sweep, points, results)
        write_atomic(path / "sweep.json", json.dumps(summary, indent=2) + "\n")
        best = replace(config, **_not_a_sweep()).changed(summary["winner"])
        write_atomic(path / "best.py", config_text(best))
        directory.finish(notes=[_note(config, points, summary)])
        say(_note(config, points, summary))
        say(f"best: {path / 'best.py'}  report: {write_report(path)}")
        return 0


def _not_a_sweep() -> dict[str, Any]:
    return {"run_type": "benchmark", "sweep_config": None, "run_dir": None, "name": None}


class Results:
    """sweep.csv: one row for each point and seed, rewritten atomically whenever points are added.

    A run has diverged where a loss is not finite.

    Args:
      path: of the file; rows of an earlier, interrupted run of the same sweep are kept.
      parameters: the swept settings.
      metrics: the columns of results; what a point's task does not measure is empty in its rows.
    """

    def __init__(self, path: Path, parameters: Iterable[str], metrics: Iterable[str]):
        self._path = path
        self._columns = ["point", *parameters, "seed", *metrics, "diverged"]
        self._rows: list[dict[str, Any]] = []
        if path.exists():
            with path.open(newline="") as file:
                self._rows = list(csv.DictReader(file))

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
    return {
        "parameters": list(sweep["parameters"]),
        "metric": metric,
        "winner": points[best],
        "winner_score": scores[best],
        "on_edge": on_edge(points[best], listed(sweep)),
    }


def _note(config: Config, points: Sequence[Point], summary: Mapping[str, Any]) -> str:
    text = (
        f"{config.optimizer} on {', '.join(config.tasks)}: {len(points)} points x {config.num_runs} seeds, best "
        f"{shown(summary['winner'])} with mean {summary['metric']['name']} {summary['winner_score']:.4f}"
    )
    if summary["on_edge"]:
        text += f"; {', '.join(summary['on_edge'])} at the edge of its grid: widen it"
    return text
