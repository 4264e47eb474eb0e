"""Which method reaches FedAvg's losses sooner: the table of a comparison, from curves. NumPy only."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from learned_aggregation.meta_testing.traffic import cohort_bytes, whole
from learned_aggregation.types import Traffic

FRACTIONS = (25, 50, 100)
"""Targets: the test loss of tuned FedAvg after these percentages of the budget."""

RESAMPLES = 1000


class Entry(NamedTuple):
    """One method on one task.

    tuned: the settings that tuning chose.
    rounds: [E], those at which it was evaluated.
    test: metric -> its values on the test split [S, E], "loss" among them; all methods have their seeds in the same
      order.
    traffic: bits per client per round. num_clients: K. gradients: examples whose gradient a round computes.
    changes: where the traffic changes, (from which round on, what it is then), from round 0 on; () where it does not.
    """

    label: str
    tuned: Mapping[str, Any]
    rounds: np.ndarray
    test: Mapping[str, Float[np.ndarray, "S E"]]
    traffic: Traffic
    num_clients: int
    gradients: int
    changes: Sequence[tuple[int, Traffic]] = ()

    @property
    def loss(self) -> Float[np.ndarray, "S E"]:
        """The test loss, which the targets are set on."""
        return self.test["loss"]


def rounds_to(target: float, rounds: np.ndarray, loss: Float[np.ndarray, "E"]) -> float:
    """The first evaluated round at which the loss is at most `target`; inf if there is none."""
    reached = np.flatnonzero(loss <= target)
    return float(rounds[reached[0]]) if len(reached) else float("inf")


def targets(baseline: Entry, seeds: np.ndarray) -> dict[int, float]:
    """The mean test loss of the baseline over `seeds` at each of FRACTIONS of its rounds."""
    mean = baseline.loss[seeds].mean(axis=0)
    budget = baseline.rounds[-1]
    at = {percent: np.searchsorted(baseline.rounds, budget * percent / 100) for percent in FRACTIONS}
    return {percent: float(mean[index]) for percent, index in at.items()}


def empty_targets(baseline: Entry) -> list[int]:
    """The FRACTIONS at which the baseline is no better than before training (it diverged): targets that say nothing."""
    untrained = float(baseline.loss[:, 0].mean())
    found = targets(baseline, np.arange(len(baseline.loss)))
    return [percent for percent, target in found.items() if not target < untrained]


def interval(values: Float[np.ndarray, "S"]) -> float:
    """Half the width of the 95 % interval of the mean over seeds (Student's t); nan for one seed."""
    from scipy import stats

    if len(values) < 2:
        return float("nan")
    return float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))


def compare(entries: Sequence[Entry], baseline: Entry) -> list[dict[str, Any]]:
    """One row for each method: rounds to the targets, speed-up, the task's final test metrics, traffic.

    Rounds to a target are read off the mean curve over seeds. The 95 % intervals of the rounds and of the
    speed-up come from resampling the seeds, the same ones for the method and for the baseline (a paired
    bootstrap), with the targets recomputed each time.

    Returns:
      Rows by column of table.csv: test_NAME and test_NAME_ci95 for every metric of the task, and for the loss its
      mean over the run; bytes of a round of the whole cohort, bits of one client.
    """
    everyone = np.arange(len(baseline.loss))
    count = RESAMPLES if len(everyone) > 1 else 0
    resamples = np.random.default_rng(0).integers(len(everyone), size=(count, len(everyone)))
    goals = targets(baseline, everyone)
    resampled_goals = [targets(baseline, seeds) for seeds in resamples]
    rows = []
    for entry in entries:
        row: dict[str, Any] = {"entrant": entry.label, "seeds": len(everyone)}
        for percent in FRACTIONS:
            boot = [
                (_reach(baseline, seeds, goal[percent]), _reach(entry, seeds, goal[percent]))
                for seeds, goal in zip(resamples, resampled_goals, strict=True)
            ]
            base, reached = (_reach(one, everyone, goals[percent]) for one in (baseline, entry))
            row |= _spread(f"rounds_to_{percent}", reached, [b for _, b in boot])
            row |= _spread(f"speedup_{percent}", _ratio(base, reached), [_ratio(a, b) for a, b in boot])
        row |= _test_columns(entry.test) | _traffic_columns(entry, row["rounds_to_100"])
        rows.append(row | {"tuned": dict(entry.tuned)})
    return rows


def _test_columns(test: Mapping[str, Float[np.ndarray, "S E"]]) -> dict[str, float]:
    row = {}
    for name, curve in test.items():
        row |= _final(f"test_{name}", curve)
        if name == "loss":
            row |= _mean("test_loss_mean", curve)
    return row


def _traffic_columns(entry: Entry, rounds: float) -> dict[str, float]:
    up, down = cohort_bytes(entry.traffic, entry.num_clients)
    return {
        "bytes_up_per_round": whole(up),
        "bytes_down_per_round": whole(down),
        "bytes_to_target": _sent(
            entry, rounds, lambda traffic: sum(cohort_bytes(traffic, entry.num_clients))
        ),
        "bits_up_per_client": whole(entry.traffic.up),
        "bits_down_per_client": whole(entry.traffic.down),
        "bits_to_target": _sent(entry, rounds, lambda traffic: traffic.up + traffic.down),
        "client_gradients_per_round": entry.gradients,
        "client_gradients_to_target": _until(rounds, entry.gradients),
    }


def _sent(entry: Entry, rounds: float, amount: Callable[[Traffic], float]) -> float:
    """What is sent in the rounds to a target; inf where it was never reached."""
    if not entry.changes or not np.isfinite(rounds):
        return _until(rounds, amount(entry.traffic))
    ends = [start for start, _ in entry.changes[1:]] + [rounds]
    return sum(
        max(0.0, min(end, rounds) - start) * amount(traffic)
        for (start, traffic), end in zip(entry.changes, ends, strict=True)
    )


def _until(rounds: float, per_round: float) -> float:
    """What the rounds to a target take in all; inf where it was never reached, also of nothing."""
    return rounds * per_round if np.isfinite(rounds) else float("inf")


def _reach(entry: Entry, seeds: np.ndarray, target: float) -> float:
    return rounds_to(target, entry.rounds, entry.loss[seeds].mean(axis=0))


def _ratio(base: float, reached: float) -> float:
    """base / reached, of at least a round each; 0 where the target was never reached, nan where neither reached it."""
    if np.isinf(reached):
        return float("nan") if np.isinf(base) else 0.0
    return max(base, 1.0) / max(reached, 1.0)


def _spread(name: str, value: float, resampled: Sequence[float]) -> dict[str, float]:
    """The value with its interval; resampling one seed says nothing, and gives none."""
    if not resampled:
        return {name: value, f"{name}_low": float("nan"), f"{name}_high": float("nan")}
    low, high = np.quantile(resampled, [0.025, 0.975], method="nearest")
    return {name: value, f"{name}_low": float(low), f"{name}_high": float(high)}


def _final(name: str, curve: Float[np.ndarray, "S E"]) -> dict[str, float]:
    last = curve[:, -1]
    return {name: float(np.mean(last)), f"{name}_ci95": interval(last)}


def _mean(name: str, curve: Float[np.ndarray, "S E"]) -> dict[str, float]:
    """Over all evaluations but the first, made before training."""
    mean = curve[:, 1:].mean(axis=1)
    return {name: float(np.mean(mean)), f"{name}_ci95": interval(mean)}
