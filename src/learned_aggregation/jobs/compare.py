"""`run_type = "compare"`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from learned_aggregation import build
from learned_aggregation.config.resolve import Config, config_text, run_dir, with_settings
from learned_aggregation.errors import UserError
from learned_aggregation.jobs.finished import Finished
from learned_aggregation.jobs.groups import group_points, write_partition
from learned_aggregation.jobs.kept_curves import run_points
from learned_aggregation.jobs.measures import SPLITS, measured_by, with_probes
from learned_aggregation.jobs.range_notes import RangeNotes
from learned_aggregation.meta_testing.comparison import Entry, compare, empty_targets
from learned_aggregation.meta_testing.points import (
    Point,
    grid,
    last_values,
    mean_values,
    on_edge,
    shown,
    widened,
    winner,
)
from learned_aggregation.meta_testing.program import Curves
from learned_aggregation.report.html import write_report
from learned_aggregation.report.terminal import print_comparison, print_rounds_table
from learned_aggregation.runs import messages
from learned_aggregation.runs.csv_file import united, write_csv
from learned_aggregation.runs.messages import say
from learned_aggregation.runs.rounds_file import Record, write_rounds
from learned_aggregation.runs.run_directory import RunDirectory, metric_facts, unused
from learned_aggregation.streams import to_stdout
from learned_aggregation.types import Metric, Theta

BASELINE = "fedavg"
TUNING_OFFSET = 1_000_000
"""Tuning draws its seeds from here on, so that no final run was tuned on."""


Seen = dict[str, np.ndarray]
"""The tuning's curves so far: outer_valid losses [seeds, E]."""


class Tuned(NamedTuple):
    """point: the best one; size: of the grid; edges: settings whose best value is the grid's least or greatest.

    diverged: no point of the grid kept a finite loss, and `point` is its first.
    """

    point: Point
    size: int
    edges: list[str]
    diverged: bool = False


class Method(NamedTuple):
    """One of the config's `entrants`.

    config: its settings, those that are not tuned filled in. sweep: setting -> values to tune over.
    """

    label: str
    config: Config
    theta: Theta
    sweep: dict[str, list]


def run(config: Config, command: str) -> Finished:
    """Tunes each method on outer_valid and runs all with the same seeds; writes table.csv and the report.

    Raises:
      UserError: no fedavg among the methods (it sets the targets), a checkpoint that does not fit.
    """
    methods = [_method(config, dict(settings)) for settings in config.entrants]
    if not any(method.config.optimizer == BASELINE for method in methods):
        raise UserError(
            f"entrants: expected one with optimizer {BASELINE!r}, which sets the targets, got "
            f"{[method.label for method in methods]}. Add dict(label='FedAvg', optimizer='fedavg', ...)."
        )
    loader = build.Loader()
    # a missing data set is said before anything runs
    loaded = {task: loader.load(config, task) for task in config.tasks}
    metrics = with_probes(measured_by(loaded), config.probes)
    with unused(run_dir(config), explicit=config.run_dir is not None) as path:
        facts = {"run_type": config.run_type, "name": path.name, "command": command}
        directory = RunDirectory(path, config_text(config), facts | {"metrics": metric_facts(metrics)})
        write_partition(path, loader.load(config, config.tasks[0]))
        records, rows, notes, seen, ranges = [], [], [], {}, RangeNotes()
        for task in config.tasks:
            entries = []
            for method in methods:
                entry, record, note = _run_method(method, loader, task, metrics[task], seen, ranges)
                entries.append((method, entry))
                records.append(record)
                notes.append(note)
            baseline = next(entry for method, entry in entries if method.config.optimizer == BASELINE)
            if empty := empty_targets(baseline):
                notes.append(_empty_note(baseline.label, task, empty))
            rows += [{"task": task, **row} for row in compare([entry for _, entry in entries], baseline)]
        write_rounds(path / "rounds.csv", records)
        _write_table(path / "table.csv", rows)
        directory.finish(notes=[*notes, *ranges.notes], table_note=_table_note(config))
        report = write_report(path)
        if messages.shown():
            with to_stdout():
                print_rounds_table(path)
                print_comparison(path)
        say(f"table: {path / 'table.csv'}  report: {report}")
        return Finished(0, path)


def _method(config: Config, settings: dict[str, Any]) -> Method:
    label, sweep = settings.pop("label"), settings.pop("sweep", {})
    untuned = with_settings(replace(config, run_type="benchmark", entrants=[]), settings)
    # Points that do not fit are refused before anything runs.
    first, *_ = [untuned.changed(point) for point in grid(sweep)]
    return Method(label, untuned, build.learned_theta(first), sweep)


def _run_method(
    method: Method,
    loader: build.Loader,
    task: str,
    metrics: Sequence[Metric],
    seen: Seen,
    ranges: RangeNotes,
) -> tuple[Entry, Record, str]:
    """Tunes the method on one task and runs it with the final seeds."""
    points = [method.config.changed(point) for point in grid(method.sweep)]
    ranges.check(method.label, points, loader.load(points[0], task).task)
    point, size, edges, diverged = _tune(method, loader, task, seen)
    config = method.config.changed(point)
    loaded = loader.load(config, task)
    ranges.check(method.label, [config], loaded.task)  # its grid may have grown
    seeds = range(config.seed, config.seed + config.num_runs)
    [curves] = run_points(config, [{}], seeds, loaded, method.theta, SPLITS, f"{method.label} on {task}")
    sent = build.traffic_changes(config, loaded)
    entry = Entry(
        method.label,
        point,
        curves.eval_rounds,
        {metric.name: {**curves.evaluated, **curves.probed}[f"test_{metric.name}"] for metric in metrics},
        sent[0][1],
        config.num_grads,
        build.round_sizes(config).examples,
        sent,
    )
    note = f"{method.label} on {task}: grid of {size}, chosen {shown(point)}; {build.examples_note(config)}"
    if diverged:
        note += "; every point of its grid diverged: tune over lower rates"
    if edges:
        note += f"; {', '.join(edges)} chosen at the edge of its grid: widen it"
    record = Record(method.label, task, seeds, curves, sent[0][1], config.num_grads, changes=sent)
    return entry, record, note


def _tune(method: Method, loader: build.Loader, task: str, seen: Seen) -> Tuned:
    """The point with the lowest outer_valid loss over the tuning seeds: see `tune_by`.

    The grid grows beyond the edges that the best point lies on, up to `widen` times.
    """
    score = {"last": last_values, "mean": mean_values}[method.config.tune_by]
    sweep, grown = method.sweep, 0
    while len(points := grid(sweep)) > 1:
        scores = [score(curves).mean() for curves in _tuning_curves(method, points, loader, task, seen)]
        index = winner(scores)
        if index is None:
            return Tuned(points[0], len(points), [], diverged=True)
        best = points[index]
        wider = widened(best, sweep)
        if grown == method.config.widen or wider == sweep:
            return Tuned(best, len(points), on_edge(best, sweep))
        sweep, grown = wider, grown + 1
    return Tuned(points[0], 1, [])


def _tuning_curves(
    method: Method, points: list[Point], loader: build.Loader, task: str, seen: Seen
) -> list[np.ndarray]:
    """The outer_valid loss of each point [seeds, E]; methods that differ in how they tune alone share them."""
    rule = config_text(replace(method.config, tune_by="last", widen=0))
    keys = [json.dumps([rule, point, task], default=str) for point in points]
    missing = [point for key, point in zip(keys, points, strict=True) if key not in seen]
    if missing:
        curves = _run_tuning(method, missing, loader, task)
        seen |= dict(zip((key for key in keys if key not in seen), curves, strict=True))
    return [seen[key] for key in keys]


def _run_tuning(method: Method, points: list[Point], loader: build.Loader, task: str) -> list[np.ndarray]:
    first = method.config.seed + TUNING_OFFSET
    seeds = range(first, first + method.config.tuning_seeds)
    found: dict[int, Curves] = {}
    for group in group_points(method.config, points):
        chosen = [points[index] for index in group.points]
        what = f"tuning {method.label} on {task}, {len(chosen)} points"
        loaded = loader.load(group.config, task)
        curves = run_points(group.config, chosen, seeds, loaded, method.theta, SPLITS[:1], what)
        found |= dict(zip(group.points, curves, strict=True))
    return [found[i].evaluated["outer_valid_loss"] for i in range(len(points))]


def _table_note(config: Config) -> str:
    return (
        f"{config.num_runs} seeds, the same for all; rules tuned on outer_valid with {config.tuning_seeds} other "
        "seeds. Intervals are 95 %. Targets: tuned FedAvg's mean test loss at 25, 50 and 100 % of its rounds."
    )


def _empty_note(label: str, task: str, percents: Sequence[int]) -> str:
    at = ", ".join(map(str, percents))
    return (
        f"{label} on {task}: after {at} % of its rounds it is no better than before training: rounds to these targets "
        "and speed-ups over it say nothing; lower its rates"
    )


def _write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Methods of a task that measures other things have empty cells."""
    write_csv(path, united(rows), [{**row, "tuned": json.dumps(row["tuned"])} for row in rows])
