"""Who reaches FedAvg's losses sooner: the table of a comparison, from curves. No JAX here."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

FRACTIONS = (25, 50, 100)
"""Targets: the test loss of tuned FedAvg after these percentages of the budget."""

RESAMPLES = 1000


class Entry(NamedTuple):
    """One entrant on one task.

    test_loss, test_accuracy: [seeds, E], seeds in the same order for all entrants; rounds: [E].
    bytes_up, bytes_down: a round's traffic; gradients: examples whose gradient a round computes.
    """

    label: str
    tuned: Mapping[str, Any]
    rounds: np.ndarray
    test_loss: Float[np.ndarray, "S E"]
    test_accuracy: Float[np.ndarray, "S E"]
    bytes_up: int
    bytes_down: int
    gradients: int


def rounds_to(target: float, rounds: np.ndarray, loss: Float[np.ndarray, "E"]) -> float:
    """The first evaluated round at which the loss is at most `target`; inf if there is none."""
    reached = np.flatnonzero(loss <= target)
    return float(rounds[reached[0]]) if len(reached) else float("inf")


def targets(yardstick: Entry, seeds: np.ndarray) -> dict[int, float]:
    """The mean test loss of the yardstick over `seeds` at each of FRACTIONS of its rounds."""
    mean = yardstick.test_loss[seeds].mean(axis=0)
    budget = yardstick.rounds[-1]
    at = {percent: np.searchsorted(yardstick.rounds, budget * percent / 100) for percent in FRACTIONS}
    return {percent: float(mean[index]) for percent, index in at.items()}


def interval(values: Float[np.ndarray, "S"]) -> float:
    """Half the width of the 95 % interval of the mean over seeds (Student's t); nan for one seed."""
    from scipy import stats

    if len(values) < 2:
        return float("nan")
    return float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))


def compare(entries: Sequence[Entry], yardstick: Entry) -> list[dict[str, Any]]:
    """One row an entrant: rounds to the targets, speed-up, final test loss and accuracy, traffic.

    Rounds to a target are read off the mean curve over seeds. The 95 % intervals of the rounds and of the
    speed-up come from resampling the seeds, the same ones for the entrant and for the yardstick (a paired
    bootstrap), with the targets recomputed each time.
    """
    everyone = np.arange(len(yardstick.test_loss))
    resamples = np.random.default_rng(0).integers(len(everyone), size=(RESAMPLES, len(everyone)))
    goals = targets(yardstick, everyone)
    resampled_goals = [targets(yardstick, seeds) for seeds in resamples]
    rows = []
    for entry in entries:
        row: dict[str, Any] = {"entrant": entry.label, "seeds": len(everyone)}
        for percent in FRACTIONS:
            boot = [
                (_reach(yardstick, seeds, goal[percent]), _reach(entry, seeds, goal[percent]))
                for seeds, goal in zip(resamples, resampled_goals, strict=True)
            ]
            base, own = _reach(yardstick, everyone, goals[percent]), _reach(entry, everyone, goals[percent])
            row |= _spread(f"rounds_to_{percent}", own, [b for _, b in boot])
            row |= _spread(f"speedup_{percent}", _ratio(base, own), [_ratio(a, b) for a, b in boot])
        traffic = entry.bytes_up + entry.bytes_down
        rows.append(
            row
            | _final("test_loss", entry.test_loss)
            | _mean("test_loss_mean", entry.test_loss)
            | _final("test_accuracy", entry.test_accuracy)
            | {
                "bytes_up_per_round": entry.bytes_up,
                "bytes_down_per_round": entry.bytes_down,
                "bytes_to_target": row["rounds_to_100"] * traffic,
                "client_gradients_per_round": entry.gradients,
                "client_gradients_to_target": row["rounds_to_100"] * entry.gradients,
                "tuned": dict(entry.tuned),
            }
        )
    return rows


def _reach(entry: Entry, seeds: np.ndarray, target: float) -> float:
    return rounds_to(target, entry.rounds, entry.test_loss[seeds].mean(axis=0))


def _ratio(base: float, own: float) -> float:
    """base / own; 0 where the target was never reached."""
    return 0.0 if np.isinf(own) else base / max(own, 1.0)


def _spread(name: str, value: float, resampled: Sequence[float]) -> dict[str, float]:
    low, high = np.quantile(resampled, [0.025, 0.975], method="nearest")
    return {name: value, f"{name}_low": float(low), f"{name}_high": float(high)}


def _final(name: str, curve: Float[np.ndarray, "S E"]) -> dict[str, float]:
    last = curve[:, -1]
    return {name: float(np.mean(last)), f"{name}_ci95": interval(last)}


def _mean(name: str, curve: Float[np.ndarray, "S E"]) -> dict[str, float]:
    """Over all evaluations but the first, made before training."""
    mean = curve[:, 1:].mean(axis=1)
    return {name: float(np.mean(mean)), f"{name}_ci95": interval(mean)}
