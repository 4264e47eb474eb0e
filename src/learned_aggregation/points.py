"""Points of a sweep: settings by name, their grids, and which of them won. No JAX here."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Point = dict[str, Any]


def grid(parameters: Mapping[str, Sequence[Any]]) -> list[Point]:
    """Every combination of the parameters' values, the last parameter varying fastest."""
    return [dict(zip(parameters, values, strict=True)) for values in itertools.product(*parameters.values())]


def last_values(curve: np.ndarray) -> np.ndarray:
    """[..., E] -> [...]: the last value; a run that diverged counts as infinitely bad."""
    last = np.asarray(curve, np.float64)[..., -1]
    return np.where(np.isfinite(last), last, np.inf)


def winner(scores: Sequence[float], minimize: bool = True) -> int:
    """The index of the best score; a score that is not finite never wins unless all are."""
    scores = np.asarray(scores, np.float64) * (1.0 if minimize else -1.0)
    return int(np.argmin(np.where(np.isfinite(scores), scores, np.inf)))


def on_edge(point: Point, parameters: Mapping[str, Sequence[Any]]) -> list[str]:
    """The numeric parameters whose value in `point` is the least or the greatest of its grid."""
    edges = []
    for name, values in parameters.items():
        numeric = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
        if numeric and len(set(values)) > 1 and point[name] in (min(values), max(values)):
            edges.append(name)
    return edges
