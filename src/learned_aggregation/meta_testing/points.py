"""Points of a sweep: settings by name, their grids, and which of them won. No JAX here."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Point = dict[str, Any]

FRACTIONS = ("beta", "beta1", "beta2", "base_momentum", "dropout", "strength")
"""Settings and options whose grids stay in [0, 1], whose ends are no edges; a grid may start above 1."""


def shown(point: Mapping[str, Any]) -> str:
    """A point in words.

    Example:
      >>> shown({"local_learning_rate": 0.5, "base": "mean"})
      'local_learning_rate=0.5, base=mean'
    """
    return ", ".join(f"{name}={value}" for name, value in point.items()) or "no setting tuned"


def grid(parameters: Mapping[str, Sequence[Any]], limit: int | None = None) -> list[Point]:
    """Every combination of the parameters' values, the last parameter varying fastest; at most `limit` of them."""
    combinations = itertools.islice(itertools.product(*parameters.values()), limit)
    return [dict(zip(parameters, values, strict=True)) for values in combinations]


def draw(parameters: Mapping[str, Mapping[str, Any]], count: int, seed: int) -> list[Point]:
    """`count` random points; each parameter in wandb's format: value, values (probabilities) or a range.

    uniform, int_uniform (both ends included), log_uniform_values (log-uniform between the values); the q_
    forms round to multiples of q between the ends, whole numbers where min, max and q are.
    """
    rng = np.random.default_rng(seed)
    return [{name: _draw_one(spec, rng) for name, spec in parameters.items()} for _ in range(count)]


def _draw_one(spec: Mapping[str, Any], rng: np.random.Generator) -> Any:
    if "value" in spec:
        return spec["value"]
    if "values" in spec:
        return spec["values"][rng.choice(len(spec["values"]), p=spec.get("probabilities"))]
    low, high, kind = spec["min"], spec["max"], spec["distribution"]
    if kind == "int_uniform":
        return int(rng.integers(low, high, endpoint=True))
    drawn = np.exp(rng.uniform(np.log(low), np.log(high))) if "log" in kind else rng.uniform(low, high)
    if "q" not in spec:
        return float(min(max(drawn, low), high))
    first, last = multiples(low, high, spec["q"])
    near = min(max(round(float(drawn / spec["q"])), first), last) * spec["q"]
    return near if type(near) is int else float(min(max(near, low), high))


def multiples(low: float, high: float, q: float) -> tuple[int, int]:
    """The first and the last k with k q between low and high, but for rounding; the last is lower where there is none.

    Example:
      >>> multiples(0.01, 0.3, 0.1)
      (1, 3)
    """
    first, last = low / q, high / q
    return math.ceil(first - 1e-9 * abs(first)), math.floor(last + 1e-9 * abs(last))


def num_points(parameters: Mapping[str, Sequence[Any]]) -> int:
    """How many points `grid` makes."""
    return math.prod(map(len, parameters.values()))


def sweep_points(sweep: Mapping[str, Any], seed: int) -> list[Point]:
    """The points of a checked `sweep_config`, in a fixed order; a grid stops at run_cap if there is one."""
    if sweep["method"] == "random":
        return draw(sweep["parameters"], sweep["run_cap"], seed)
    return grid(listed(sweep), sweep.get("run_cap"))


def listed(sweep: Mapping[str, Any]) -> dict[str, list]:
    """The values that a sweep lists for each parameter; ranges have none."""
    return {
        name: spec["values"] if "values" in spec else [spec["value"]]
        for name, spec in sweep["parameters"].items()
        if "values" in spec or "value" in spec
    }


def last_values(curve: np.ndarray) -> np.ndarray:
    """[..., E] -> [...]: the last value; a run that diverged counts as infinitely bad."""
    last = np.asarray(curve, np.float64)[..., -1]
    return np.where(np.isfinite(last), last, np.inf)


def mean_values(curve: np.ndarray) -> np.ndarray:
    """[..., E] -> [...]: the mean over all evaluations but the first, made before training; inf if one diverged."""
    mean = np.asarray(curve, np.float64)[..., 1:].mean(axis=-1)
    return np.where(np.isfinite(mean), mean, np.inf)


def winner(scores: Sequence[float], minimize: bool = True) -> int | None:
    """The index of the best score. One that is not finite never wins: None where there is no other."""
    costs = np.asarray(scores, np.float64) * (1.0 if minimize else -1.0)
    finite = np.isfinite(costs)
    return int(np.argmin(np.where(finite, costs, np.inf))) if finite.any() else None


def on_edge(point: Point, parameters: Mapping[str, Sequence[Any]]) -> list[str]:
    """The numeric parameters whose value in `point` is the least or the greatest of its grid.

    0 is no edge, nor is 1 where a grid stays in [0, 1].
    """
    edges = []
    for name, values in parameters.items():
        numeric = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
        if numeric and len(set(values)) > 1 and point[name] in (min(values), max(values)):
            edges.append(name)
    return [name for name in edges if point[name] != 0 and not (_is_fraction(name) and point[name] == 1)]


def widened(point: Point, parameters: Mapping[str, Sequence[Any]]) -> dict[str, list]:
    """The grid with one more value beyond each edge that `point` lies on; numbers that are no floats stay.

    Rates go on by the ratio of the last two values (by 2 where one is 0). Fractions go down to 0, and up so that the
    distance to 1 shrinks by the ratio of the last two distances.
    """
    edges = on_edge(point, parameters)
    wider = {}
    for name, values in parameters.items():
        wider[name] = list(values)
        if name in edges and all(isinstance(v, float) for v in values):
            value = _beyond(name, point[name], values)
            inside = 0 <= value < 1 if _is_fraction(name) else 0 < value < math.inf
            if value not in values and inside:
                wider[name] = sorted([*values, value])  # floats end somewhere: beyond, there is no wider grid
    return wider


def _beyond(name: str, edge: float, values: Sequence[float]) -> float:
    upper = edge == max(values)
    inner = sorted(set(values))[-2 if upper else 1]
    if _is_fraction(name):
        if upper and edge >= 1:
            return edge  # a strength above 1: no further
        # The distance to 1 is what is shortened: 0.9999 to three digits would be 1, which is no fraction.
        return 1.0 - _short((1.0 - edge) ** 2 / (1.0 - inner)) if upper else 0.0
    return _short(edge * (edge / inner) if inner else 2.0 * edge)


def _is_fraction(name: str) -> bool:
    return name.rpartition(".")[2] in FRACTIONS


def _short(value: float) -> float:
    return float(f"{value:.3g}")
