"""One checkpoint against tuned rivals on real data: reads the finished comparisons of `make results-real`."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.claims import Claim, Verdict
from benchmarks.real_settings import FORMS, missing, told

TITLE = "Aggregators that win where people work"
COMMAND = ("-m", "benchmarks.real_settings")
SETTINGS = 20
"""The fewest settings that count as "where people work"."""
WON_AGAINST_FEDAVG = 0.9
ROUNDS = 0.5
KEPT_UP = {"tuned": 0.8, "untuned": 0.6}
"""Of the settings, at least: won or tied against the best of tuned SlowMo and Nesterov."""
QUICK_SECONDS, QUICK_ROUNDS = 120.0, 2 / 3
PAPER = ("fmnist_mlp_h4", "fmnist_mlp_h8", "fmnist_mlp_h16")
TEXT = ("shakespeare_adamw", "shakespeare_muon", "pytext_adamw", "pytext_muon")


def claims() -> list[Claim]:
    """In the order in which they were asked."""
    return [*one_checkpoint(), *paper(), *text(), quickstart()]


def _needs() -> str:
    left = missing()
    return f"make results-real ({len(left)} comparisons are not there yet)" if left else ""


def _claim(key: str, asked: str, judge: Callable[[Any], Verdict]) -> Claim:
    return Claim(key, asked, COMMAND, judge, _needs, fresh=False)


def _of(found: Any, form: str) -> dict[str, Any]:
    """Setting -> what is said of that form."""
    return {name: forms[form] for name, forms in found["settings"].items()}


def _listed(names: Iterator[str]) -> str:
    return ", ".join(names) or "none"


def one_checkpoint() -> list[Claim]:
    """Line 1, tuned and untuned."""
    made = [_claim("settings", f"1. at least {SETTINGS} settings", _settings)]
    for form in FORMS:
        made += [
            _claim(
                f"fedavg-{form}",
                f"1. {form}: mean loss won against tuned FedAvg on at least {WON_AGAINST_FEDAVG:.0%}",
                lambda found, form=form: _share(
                    _of(found, form), lambda one: one["fedavg"]["mean"], ("win",), 0.9
                ),
            ),
            _claim(
                f"rounds-{form}",
                f"1. {form}: rounds to tuned FedAvg's last loss, at most {ROUNDS:g} of its rounds in the median",
                lambda found, form=form: _rounds(_of(found, form)),
            ),
            _claim(
                f"best-{form}",
                f"1. {form}: won or tied against the best of tuned SlowMo and Nesterov on at least {KEPT_UP[form]:.0%}",
                lambda found, form=form: _share(
                    _of(found, form), lambda one: one["best"], ("win", "tie"), KEPT_UP[form]
                ),
            ),
            _claim(
                f"harm-{form}",
                f"1. {form}: nowhere behind averaging the same clients by 2 standard errors, in mean or last loss",
                lambda found, form=form: _no_harm(_of(found, form)),
            ),
            _claim(
                f"diverged-{form}",
                f"1. {form}: diverged nowhere",
                lambda found, form=form: _nowhere(
                    n for n, one in _of(found, form).items() if one["diverged"]
                ),
            ),
        ]
    return made


def _settings(found: Any) -> Verdict:
    return Verdict(
        f"{len(found['settings'])} settings",
        _listed(iter(found["settings"])),
        len(found["settings"]) >= SETTINGS,
    )


def _share(said: dict[str, Any], of: Callable[[Any], float], good: tuple[str, ...], least: float) -> Verdict:
    verdicts = dict(zip(said, told(of(one) for one in said.values()), strict=True))
    counted = [list(verdicts.values()).count(kind) for kind in ("win", "tie", "loss")]
    reached = sum(kind in good for kind in verdicts.values()) / len(verdicts)
    others = _listed(f"{name} ({kind})" for name, kind in verdicts.items() if kind not in good)
    wins, ties, losses = counted
    return Verdict(
        f"{reached:.0%}: {wins} won, {ties} tied, {losses} lost", f"not: {others}", reached >= least
    )


def _rounds(said: dict[str, Any]) -> Verdict:
    ratios = [np.inf if one["rounds"] is None else one["rounds"] for one in said.values()]
    low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75), method="nearest")
    never = _listed(name for name, one in said.items() if one["rounds"] is None)
    return Verdict(
        f"{middle:.2f}", f"quartiles {low:.2f} to {high:.2f}; never: {never}", bool(middle <= ROUNDS)
    )


def _no_harm(said: dict[str, Any]) -> Verdict:
    return _nowhere(
        f"{name} ({k} {error:+.1f})"
        for name, one in said.items()
        for k, error in one["harm"].items()
        if told([error]) == ["loss"]
    )


def _nowhere(names: Iterator[str]) -> Verdict:
    found = list(names)
    return Verdict(f"{len(found)} settings" if found else "nowhere", _listed(iter(found)), not found)


def paper() -> list[Claim]:
    """Line 2: the published rules on the paper's problem."""
    return [
        _claim(
            f"{rule.lower()}-{name.rpartition('_')[2]}",
            f"2. {rule} on {name}: mean loss won against tuned local SGD, SlowMo and Adam",
            lambda found, rule=rule, name=name: _against(found["published"][name][rule], ("win",)),
        )
        for name in PAPER
        for rule in ("LAgg-A", "LOpt-A")
    ]


def _against(errors: dict[str, float], good: tuple[str, ...]) -> Verdict:
    verdicts = dict(zip(errors, told(errors.values()), strict=True))
    figure = ", ".join(f"{rival}: {kind} ({errors[rival]:+.1f})" for rival, kind in verdicts.items())
    return Verdict(figure, "paired, in standard errors", all(kind in good for kind in verdicts.values()))


def text() -> list[Claim]:
    """Line 3: adaptive clients on text."""
    return [
        _claim(
            f"text-{name.replace('_', '-')}",
            f"3. {name}, H = 30: won or tied against Nesterov outside at its best of a wide grid, mean and last loss",
            lambda found, name=name: _against(found["settings"][name]["tuned"]["nesterov"], ("win", "tie")),
        )
        for name in TEXT
    ]


def quickstart() -> Claim:
    """Line 4: what the quickstart meta-trains, five times."""
    return Claim(
        "quickstart",
        f"4. the quickstart with five meta-seeds, each within {QUICK_SECONDS:.0f} s: mean loss below tuned FedAvg's by "
        f"2 standard errors, its last loss within {QUICK_ROUNDS:.2f} of its rounds",
        ("-m", "benchmarks.quickstart"),
        _quickstart,
    )


def _quickstart(found: Any) -> Verdict:
    learned, rivals = found["learned"].values(), found["rivals"]
    of_fedavg = rivals["FedAvg"]["rounds"]
    met = len(learned) == 5 and all(
        one["seconds"] <= QUICK_SECONDS
        and told([one["errors"]]) == ["win"]
        and one["rounds"] <= QUICK_ROUNDS * of_fedavg
        for one in learned
    )
    figure = "; ".join(
        f"{one['rounds']:.0f} rounds, mean loss {one['mean']:.3f} ({one['errors']:+.1f} SE)"
        for one in learned
    )
    beside = "; ".join(
        f"{name}: {one['rounds']:.0f} rounds, {one['mean']:.3f}" for name, one in rivals.items()
    )
    nesterov = ", ".join(f"{one['errors_to_nesterov']:+.1f}" for one in learned)
    slowest = max(one["seconds"] for one in learned)
    return Verdict(
        figure,
        f"{found['seeds']} seeds; {beside}; to Nesterov in SE: {nesterov}; slowest meta-training {slowest:.0f} s",
        met,
    )
