"""`python -m benchmarks.results_real --data DIR`: runs config/results_real/, writes docs/results_real.md. No JAX here.

DIR holds the data: `tfds/` (fashion_mnist and cifar10 as TFDS prepares them), `tinyshakespeare.txt` and `fsdd.npz`.
A comparison with its table.csv in runs/results_real/NAME is not run again; a killed one goes on.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.real_settings import (
    CONFIGS,
    FORMS,
    RIVALS,
    RUNS,
    averaging,
    finished,
    fits,
    judged,
    told,
)
from benchmarks.results import (
    ROOT,
    Setting,
    chosen,
    comparisons,
    number,
    rounds_told,
    run_missing,
    tally,
    verdict,
    with_error,
)

PAGE = ROOT / "docs" / "results_real.md"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what is missing, then writes the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", metavar="DIR", default="data", help="where the data lies")
    parser.add_argument(
        "--page", action="store_true", help="write the page of what has been run, and run nothing"
    )
    asked = parser.parse_args(argv)
    if not asked.page:
        run_missing(comparisons(CONFIGS), RUNS, data_flags(Path(asked.data)))
    PAGE.write_text(page(list(finished().values())))
    print(f"results: {PAGE}", file=sys.stderr)
    return 0


def data_flags(data: Path) -> list[str]:
    """The flags by which a run finds its data; those that its task does not need change nothing."""
    files = {"tfds_data_dir": "tfds", "text_file": "tinyshakespeare.txt", "fsdd_file": "fsdd.npz"}
    return [text for flag, file in files.items() for text in (f"--{flag}", str(data / file))]


def page(settings: Sequence[Setting]) -> str:
    """docs/results_real.md."""
    parts = [
        _opening(settings),
        "## The aggregator against tuned rivals",
        _overview(settings),
        _counts(settings),
    ]
    parts += ["## Where it loses", _losses(settings), "## All methods", _note()]
    parts += [_setting_table(setting) for setting in settings]
    edges = [f"- {setting.title}: {edge}" for setting in settings for edge in setting.edges]
    if edges:
        parts += ["## Grids whose best point lay on an edge", "\n".join(edges)]
    return "\n\n".join(parts) + "\n"


def _opening(settings: Sequence[Setting]) -> str:
    seeds = min(len(curves.loss) for setting in settings for curves in setting.methods.values())
    return f"""# Results on real data

Written by `make results-real DATA=DIR` from `config/results_real/`; do not edit. {len(settings)} of
{len(comparisons(CONFIGS))} comparisons have been run, with {seeds} seeds each, the same for all methods. "lagg-set" is
one checkpoint, lagg-bank. It and every other rule are tuned on `outer_valid` with other seeds: by the mean loss over
the rounds, or by the last one. What is tuned over, with equal budgets, is said in `config/_base_/results_real.py`; so
are the "untuned" rates, one for each kind of client optimizer.
± is one standard error over seeds; differences are paired over seeds and given in their standard errors, below zero
where lagg-set is better: from -2 on a win, from 2 on a loss, else a tie. FedAvg is here the best on test of its three
rows: tuned by the last loss, by the mean one, or at the untuned rate (a rate that few seeds chose may fail others).
Where its tuned row is the worse one, the last table's "rounds to FedAvg's last" is measured by an easy target.
lagg-bank was meta-trained on Fashion-MNIST's training images with this MLP (SGD clients at H 4, AdamW at H 16), on
digits, glyphs, pytext and small tables: speech, CIFAR-10, tinyshakespeare and breast cancer are new to it.
Its second part (docs/meta_training.md) was made, on other data, after its first had lost on breast cancer.
Accuracies on CIFAR-10 are those of a copy in JPEG."""


def _overview(settings: Sequence[Setting]) -> str:
    heads = "FedAvg: mean, last | best rival's mean | lagg-set: mean, last | untuned: mean, last"
    heads += (
        " | against FedAvg: mean, last | rounds to its last | against the best rival | untuned against it"
    )
    lines = [f"| | {heads} |", "|---|" + "---|" * 8]
    for setting in settings:
        told_ = [_fedavg(setting), min(_means(setting), key=lambda text: text.partition(" ")[0])]
        told_ += [_pair(setting, label) for label in FORMS.values()]
        tuned, untuned = (judged(setting, form) for form in FORMS)
        told_ += [", ".join(_said(tuned["fedavg"][k]) for k in ("mean", "last"))]
        told_ += ["-" if tuned["rounds"] is None else f"{tuned['rounds']:.2f}"]
        told_ += [_said(one["best"]) for one in (tuned, untuned)]
        lines.append(f"| {setting.title} | " + " | ".join(told_) + " |")
    return "\n".join(lines)


def _fedavg(setting: Setting) -> str:
    mean, last = (averaging(setting, criterion) for criterion in ("mean", "last"))
    return f"{number(mean.mean)}, {number(last.last)}"


def _pair(setting: Setting, rule: str) -> str:
    mean, last = setting.by(rule, "mean"), setting.by(rule, "last")
    assert mean is not None, rule
    assert last is not None, rule
    return f"{number(mean.mean)}, {number(last.last)}"


def _means(setting: Setting) -> list[str]:
    found = ((rival, setting.by(rival, "mean")) for rival in RIVALS)
    return [f"{number(curves.mean)} ({rival})" for rival, curves in found if curves is not None]


def _said(error: float) -> str:
    return f"{verdict(error)} ({error:+.1f})" if abs(error) < 1e6 else f"{verdict(error)} (diverged)"


def _counts(settings: Sequence[Setting]) -> str:
    lines = []
    for form in FORMS:
        found = [judged(setting, form) for setting in settings]
        for against, values in (
            ("FedAvg, mean loss", [one["fedavg"]["mean"] for one in found]),
            ("FedAvg, last loss", [one["fedavg"]["last"] for one in found]),
            ("the best of tuned SlowMo and Nesterov, mean loss", [one["best"] for one in found]),
            ("the best of tuned SlowMo and Nesterov, last loss", [one["best_last"] for one in found]),
        ):
            lines.append(f"- {form}, against {against}: {tally(told(values))}")
        ratios = [np.inf if one["rounds"] is None else one["rounds"] for one in found]
        lines.append(
            f"- {form}, rounds to FedAvg's last loss over FedAvg's: {np.median(ratios):.2f} in the median"
        )
        diverged = [s.title for s, one in zip(settings, found, strict=True) if one["diverged"]]
        lines.append(f"- {form}, diverged: {', '.join(diverged) or 'never'}")
    return "\n".join(lines)


def _losses(settings: Sequence[Setting]) -> str:
    lines = []
    for setting in settings:
        for form in FORMS:
            one = judged(setting, form)
            against = {f"FedAvg, {k} loss": one["fedavg"][k] for k in ("mean", "last")}
            against |= {
                "the best rival, mean loss": one["best"],
                "the best rival, last loss": one["best_last"],
            }
            lost = [f"{rival} ({error:+.1f})" for rival, error in against.items() if verdict(error) == "loss"]
            lines += [f"- {setting.title}, {form}: {'; '.join(lost)}"] if lost else []
    return "\n".join(lines) or "Nowhere in these settings."


def _note() -> str:
    return """Training loss: over the last tenth of the rounds. Early-stopped: the test loss where the run's outer_valid
loss was lowest, which a method that fits faster, and overfits sooner, is to be judged by."""


def _setting_table(setting: Setting) -> str:
    further = [f"last {name.removeprefix('test_')}" for name in setting.measures]
    heads = [
        "mean loss",
        "last loss",
        "early-stopped",
        "training loss",
        *further,
        "rounds to FedAvg's last",
        "chosen",
    ]
    lines = [f"### {setting.title}\n", f"| | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)]
    fitted = fits(setting.name, setting.methods, RUNS)
    for label, curves in setting.methods.items():
        train, stopped = fitted[label]
        told_ = [with_error(values) for values in (curves.mean, curves.last, stopped, train)]
        told_ += [with_error(curves.others[name], measure) for name, measure in setting.measures.items()]
        lines.append(f"| {label} | {' | '.join([*told_, rounds_told(curves.row), chosen(curves.row)])} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
