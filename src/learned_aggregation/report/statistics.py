"""Means and intervals over seeds, and the curves that rounds.csv holds."""

from typing import NamedTuple

import numpy as np

from learned_aggregation.report.files import Csv, numbers
from learned_aggregation.report.measures import Measure, Measures, metric_columns


class Estimate(NamedTuple):
    """A mean over seeds and its spread.

    count: the seeds that have a value.
    diverged: how many of them are not finite; the mean is then nan.
    """

    mean: float
    error: float
    count: int
    diverged: int = 0


class Curve(NamedTuple):
    """One metric of one optimizer on one task, at the R rounds that all S seeds have reached.

    rounds: [R].
    bytes: what the whole cohort has sent by then, up and down [R]; None where not recorded.
    values: [S, R].
    bits: what one client has exchanged by then, up and down [R]; None where not recorded.
    """

    task: str
    optimizer: str
    metric: str
    rounds: np.ndarray
    bytes: np.ndarray | None
    values: np.ndarray
    bits: np.ndarray | None = None
    measure: Measure = Measure()


def interval95(values: np.ndarray) -> np.ndarray:
    """Half width of the mean's 95 % interval over axis 0: t_{0.975,S-1} s / sqrt(S); nan for one seed."""
    from scipy.special import stdtrit

    count = values.shape[0]
    return stdtrit(count - 1, 0.975) * standard_error(values) if count > 1 else standard_error(values)


def standard_error(values: np.ndarray) -> np.ndarray:
    """s / sqrt(S) over axis 0, s with S - 1 degrees of freedom; nan for one seed."""
    count = values.shape[0]
    if count < 2:
        return np.full(values.shape[1:], np.nan)
    with np.errstate(invalid="ignore"):
        return values.std(axis=0, ddof=1) / np.sqrt(count)


def estimate(values: np.ndarray, spread=interval95) -> Estimate:
    """The mean [] over seeds [S] with its spread. A diverged seed is counted, never left out of the mean."""
    values = np.asarray(values, float)
    diverged = int((~np.isfinite(values)).sum())
    if diverged or not len(values):
        return Estimate(np.nan, np.nan, len(values), diverged)
    return Estimate(float(values.mean()), float(spread(values)), len(values))


def curves(table: Csv, measures: Measures | None = None) -> list[Curve]:
    """All curves of rounds.csv in its order; of a row written twice the last counts.

    A metric without a value in any row gives no curve, nor does one whose seeds share no round.

    Args:
      measures: of the run's tasks; None is those of older run directories.
    """
    measures = measures or Measures()
    tasks, optimizers = table.column("task"), table.column("optimizer", "run")
    seeds, (rounds, has_round) = np.array(table.column("seed", "0")), numbers(table.column("round"))
    bytes_, bits = up_and_down(table, "bytes"), up_and_down(table, "bits")
    groups: dict[tuple[str, str], list[int]] = {}
    for row, group in enumerate(zip(tasks, optimizers, strict=True)):
        groups.setdefault(group, []).append(row)
    found = []
    for metric in metric_columns(table.columns, measures):
        values, present = numbers(table.column(metric))
        usable = present & has_round & np.isfinite(rounds)
        for (task, optimizer), rows in groups.items():
            members = np.array(rows)[usable[rows]]
            by_seed = [
                last_rows(members[seeds[members] == seed], rounds) for seed in np.unique(seeds[members])
            ]
            if not by_seed:
                continue
            shared = sorted(set.intersection(*map(set, by_seed)))
            if not shared:
                continue
            index = np.array([[rows_of[r] for r in shared] for rows_of in by_seed])
            sent, exchanged = (
                total[index].mean(axis=0) if known[index].all() else None for total, known in (bytes_, bits)
            )
            at, measure = np.array(shared), measures.of(metric, task)
            found.append(Curve(task, optimizer, metric, at, sent, values[index], exchanged, measure))
    return sorted(found, key=lambda curve: list(groups).index((curve.task, curve.optimizer)))


def last_rows(rows: np.ndarray, rounds: np.ndarray) -> dict[float, int]:
    """round -> the last of the rows that hold it."""
    return dict(zip(rounds[rows].tolist(), rows.tolist(), strict=True))


def up_and_down(table: Csv, unit: str) -> tuple[np.ndarray, np.ndarray]:
    """Cumulative "bytes" or "bits" up plus down [N], and where both are known [N]."""
    up, has_up = numbers(table.column(f"{unit}_up"))
    down, has_down = numbers(table.column(f"{unit}_down"))
    return up + down, has_up & has_down


def per_round(items: list[Curve], unit: str) -> float | None:
    """ "bytes" or "bits" up and down of one round, on average over the curves' rounds; None where not recorded."""
    for item in items:
        sent = getattr(item, unit)
        if sent is not None and item.rounds[-1] > 0:
            return float(sent[-1] / item.rounds[-1])
    return None


def thin(values: np.ndarray, limit: int = 200) -> np.ndarray:
    """Averages runs of neighbours along the last axis so that at most `limit` points are left."""
    size = values.shape[-1]
    if size <= limit:
        return values
    return np.stack([part.mean(axis=-1) for part in np.array_split(values, limit, axis=-1)], axis=-1)


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """Centred running mean [N] over `window` points (fewer at the ends), non-finite points left out."""
    finite = np.isfinite(values)
    kernel = np.ones(window)
    weight = np.convolve(finite, kernel, "same")
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.convolve(np.where(finite, values, 0.0), kernel, "same") / weight


def by_task(items: list[Curve]) -> dict[str, list[Curve]]:
    """task -> its curves, in order."""
    groups: dict[str, list[Curve]] = {}
    for item in items:
        groups.setdefault(item.task, []).append(item)
    return groups


def unique(names) -> list[str]:
    """The distinct names in order of first appearance."""
    return list(dict.fromkeys(names))
