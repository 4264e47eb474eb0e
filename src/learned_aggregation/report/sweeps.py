"""A sweep's points, its winner, and the grids its heat maps show."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from learned_aggregation.report.files import Csv, numbers, read_csv, read_json
from learned_aggregation.report.measures import Measure, is_metric, read_measures
from learned_aggregation.report.statistics import Estimate, estimate


class Point(NamedTuple):
    """One point of a sweep: its swept values as written, and the metric over its seeds."""

    values: tuple[str, ...]
    result: Estimate
    winner: bool


class Sweep(NamedTuple):
    """A sweep read from sweep.csv and sweep.json.

    parameters: names of the swept parameters, in the order of each point's values.
    metric: the column that the winner is chosen on; `sign` is 1 where it is minimised, -1 where maximised.
    on_edge: parameters whose winning value is the first or last of its grid.
    """

    parameters: list[str]
    metric: str
    sign: int
    points: list[Point]
    on_edge: list[str]
    measure: Measure = Measure()


def read_sweep(run_dir: Path) -> Sweep | None:
    """The sweep of a run directory; None where there is no sweep.csv with a row in it.

    Without sweep.json (the sweep was stopped) the parameters are the columns before `seed`; no point has won. The
    metric's goal is then its direction, as run.json has it.
    """
    table, about = read_csv(run_dir / "sweep.csv"), read_json(run_dir / "sweep.json")
    if table is None or not len(table):
        return None
    names = list(table.columns)
    results = names[names.index("seed") :] if "seed" in names else list(filter(is_metric, names))
    swept = about.get("parameters") or [n for n in names if n not in ("point", "diverged", *results)]
    parameters = [name for name in swept if name in table.columns]
    chosen = about.get("metric") or {}
    metric = chosen.get("name", "outer_valid_loss")
    if metric not in table.columns:
        metric = next(filter(is_metric, results), "")
    measures = read_measures(read_json(run_dir / "run.json"))
    measure = measures.shared(metric, set(table.columns.get("task", ()))) or Measure()
    goal = chosen.get("goal", "maximize" if measure.higher_is_better else "minimize")
    sign = -1 if goal == "maximize" else 1
    points = read_points(table, parameters, metric, about.get("winner") or {})
    points.sort(key=lambda p: (not np.isfinite(p.result.mean), sign * p.result.mean if p.result.count else 0))
    return Sweep(parameters, metric, sign, points, list(about.get("on_edge") or []), measure)


def read_points(table: Csv, parameters: list[str], metric: str, winner: dict[str, Any]) -> list[Point]:
    """One Point for each combination of parameter values; a seed written twice counts once, the last."""
    results, present = numbers(table.column(metric))
    keys = list(zip(*(table.columns[name] for name in parameters), strict=True)) or [()] * len(table)
    by_point: dict[tuple[str, ...], dict[str, float]] = {}
    for row, (key, seed) in enumerate(zip(keys, table.column("seed", "0"), strict=True)):
        diverged = table.column("diverged")[row].strip().lower() in ("1", "1.0", "true", "yes")
        if diverged or present[row]:
            by_point.setdefault(key, {})[seed] = np.nan if diverged else results[row]
    won = {name: winner[name] for name in parameters if name in winner}
    return [
        Point(
            key,
            estimate(np.array(list(seeds.values()))),
            bool(won) and all(map(same, key, [won.get(n) for n in parameters])),
        )
        for key, seeds in by_point.items()
    ]


def same(written: str, value: Any) -> bool:
    """Whether a cell holds that value; numbers as numbers. None (not part of the winner) fits all."""
    if value is None:
        return True
    (a, b), present = numbers([written, str(value)])
    return bool(np.isclose(a, b, rtol=1e-9, atol=0)) if present.all() else written == str(value)


def axis_values(points: list[Point], position: int) -> list[str]:
    """The distinct values of one parameter, numbers in order of size, others in order of appearance."""
    values = list(dict.fromkeys(point.values[position] for point in points))
    order, present = numbers(values)
    return [values[i] for i in np.argsort(order, kind="stable")] if present.all() else values


def varying(sweep: Sweep) -> list[int]:
    """Positions of the parameters that take more than one value, those with the most values first."""
    sizes = [len({point.values[i] for point in sweep.points}) for i in range(len(sweep.parameters))]
    return sorted((i for i, size in enumerate(sizes) if size > 1), key=lambda i: -sizes[i])


def is_grid(sweep: Sweep) -> bool:
    """Whether the points fill the two longest axes well enough to be drawn as a heat map."""
    y, x = varying(sweep)[:2]
    filled = {(point.values[y], point.values[x]) for point in sweep.points}
    size = len(axis_values(sweep.points, y)) * len(axis_values(sweep.points, x))
    return 2 * len(filled) >= size


def best_points(points: list[Point], sign: int, y: int, x: int) -> dict[tuple[str, str], Point]:
    """(y value, x value) -> the best point with them; the winner wherever it is among them."""
    best: dict[tuple[str, str], Point] = {}
    for point in points:
        key = (point.values[y], point.values[x])
        if key not in best or badness(point, sign) < badness(best[key], sign):
            best[key] = point
    return best


def badness(point: Point, sign: int) -> tuple[bool, float]:
    """Sorts points: the winner first, then by the metric, diverged ones last."""
    finite = bool(np.isfinite(point.result.mean))
    return (not point.winner, sign * point.result.mean if finite else np.inf)
