"""What finished comparisons of config/results_real/ say of one aggregator, tuned and untuned, against each rival.

`python -m benchmarks.real_settings` prints it as JSON, for `make claims CLAIM=evidence`. No JAX here.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import (
    OWN,
    ROOT,
    Comparison,
    Curves,
    Setting,
    by_seed,
    comparisons,
    paired,
    read_setting,
    verdict,
)
from learned_aggregation.report.files import read_csv

CONFIGS = ROOT / "config" / "results_real"
RUNS = Path("runs") / "results_real"
RIVALS = ("SlowMo", "Nesterov")
PUBLISHED = ("LAgg-A", "LOpt-A")
PUBLISHED_RIVALS = ("FedAvg", "SlowMo", "Adam")
"""Local SGD, SlowMo and data-parallel Adam: whom Joseph et al., arXiv:2312.02204, compare with."""
UNTUNED = " (untuned)"
FEDAVG = ("FedAvg", "FedAvg (by mean)", "FedAvg" + UNTUNED)
FORMS = {"tuned": OWN, "untuned": OWN + UNTUNED}
"""How the aggregator is used -> its label."""


def finished(runs: Path = RUNS) -> dict[str, Setting]:
    """The comparisons that have a table, by name."""
    return {
        c.name: read_setting(c.name, c.title, runs / c.name)
        for c in comparisons(CONFIGS)
        if is_finished(c, runs)
    }


def is_finished(comparison: Comparison, runs: Path = RUNS) -> bool:
    return (runs / comparison.name / "table.csv").is_file()


def missing(runs: Path = RUNS) -> list[str]:
    """The names of the comparisons that are still to be run."""
    return [c.name for c in comparisons(CONFIGS) if not is_finished(c, runs)]


def judged(setting: Setting, form: str) -> dict[str, Any]:
    """One setting, one form of FORMS: differences of paired seeds in their standard errors, below zero where we win.

    fedavg: to FedAvg at its best (`averaging`), of the mean loss and of the last one.
    rounds: of ours until the last loss of that FedAvg, over its own; null where that is never reached.
    best: of the mean loss to whichever of tuned SlowMo and Nesterov has the lower one.
    best_last: likewise of the last loss.
    nesterov: to tuned Nesterov, of the mean and of the last loss.
    harm: to averaging with the same clients: FedAvg at its best for the tuned form, at the same rate for the other.
    diverged: whether a seed of ours did.
    """
    own = FORMS[form]
    mean, last = _by(setting, own, "mean"), _by(setting, own, "last")
    fedavg = {k: averaging(setting, k) for k in ("mean", "last")}
    plain = (
        fedavg
        if form == "tuned"
        else dict.fromkeys(("mean", "last"), _by(setting, "FedAvg" + UNTUNED, "mean"))
    )
    return {
        "fedavg": {
            "mean": errors(mean.mean, fedavg["mean"].mean),
            "last": errors(last.last, fedavg["last"].last),
        },
        "rounds": _rounds(mean, fedavg["last"]),
        "best": _to_best(setting, mean, "mean"),
        "best_last": _to_best(setting, last, "last"),
        "nesterov": {
            k: errors(getattr(own_, k), getattr(_by(setting, "Nesterov", k), k))
            for k, own_ in (("mean", mean), ("last", last))
        },
        "harm": {
            "mean": errors(mean.mean, plain["mean"].mean),
            "last": errors(last.last, plain["last"].last),
        },
        "diverged": not all(np.isfinite(curves.loss).all() for curves in (mean, last)),
    }


def averaging(setting: Setting, criterion: str) -> Curves:
    """Whichever row of FedAvg is the best on test: tuned by the last loss, by the mean one, or untuned.

    The few seeds that a rate is tuned with may choose one at which others diverge: no rival to be proud of beating.
    """
    rows = [setting.methods[label] for label in FEDAVG if label in setting.methods]
    return min(rows, key=lambda curves: _finite(getattr(curves, criterion)).mean())


def _finite(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), values, np.inf)


def _rounds(own: Curves, fedavg: Curves) -> float | None:
    """Our first evaluated round with a mean loss of at most FedAvg's last one, over FedAvg's; None: never."""
    target = fedavg.loss.mean(axis=0)[-1]
    ours, its = (
        curves.rounds[hits[0]] if len(hits := np.flatnonzero(curves.loss.mean(axis=0) <= target)) else None
        for curves in (own, fedavg)
    )
    return None if ours is None or its is None else float(ours / its)


def _by(setting: Setting, rule: str, criterion: str) -> Curves:
    found = setting.by(rule, criterion)
    if found is None:
        raise ValueError(f"{setting.name}: no {rule} (by {criterion})")
    return found


def errors(own: np.ndarray, rival: np.ndarray) -> float:
    """The paired difference in its standard errors, within +-1e9: JSON has no infinity."""
    return float(np.clip(paired(own, rival)[1], -1e9, 1e9))


def _to_best(setting: Setting, own: Curves, criterion: str) -> float:
    found = [getattr(_by(setting, rival, criterion), criterion) for rival in RIVALS]
    finite = [_finite(values).mean() for values in found]
    return errors(getattr(own, criterion), found[int(np.argmin(finite))])


def published(setting: Setting) -> dict[str, dict[str, float]]:
    """The published rules that took part -> rival -> the paired difference of the mean loss in standard errors."""
    return {
        rule: {
            rival: errors(_by(setting, rule, "mean").mean, _by(setting, rival, "mean").mean)
            for rival in PUBLISHED_RIVALS
        }
        for rule in PUBLISHED
        if rule in setting.methods
    }


def fits(name: str, labels: Iterable[str], runs: Path = RUNS) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Each method's training loss over the last tenth of its rounds [S], and its early-stopped test loss [S].

    The latter is the test loss at the evaluation with the lowest outer_valid loss of that seed's run.
    """
    table = read_csv(runs / name / "rounds.csv")
    assert table is not None, name
    found = {}
    for label in labels:
        train = by_seed(table, "train_loss", label)[1]
        valid, test = (by_seed(table, column, label)[1] for column in ("outer_valid_loss", "test_loss"))
        stopped = np.argmin(np.where(np.isfinite(valid), valid, np.inf), axis=1)
        last = -(-train.shape[1] // 10)
        found[label] = train[:, -last:].mean(axis=1), test[np.arange(len(test)), stopped]
    return found


def told(errors_: Iterable[float]) -> list[str]:
    """win, tie or loss of each."""
    return [verdict(error) for error in errors_]


def main() -> int:
    found = finished()
    said = {name: {form: judged(setting, form) for form in FORMS} for name, setting in found.items()}
    of_the_paper = {name: rows for name, setting in found.items() if (rows := published(setting))}
    print(json.dumps({"settings": said, "published": of_the_paper}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
