"""`python -m benchmarks.results`: runs every comparison of config/results/ and writes docs/results.md. No JAX here.

A comparison that has its table.csv in runs/results/NAME is not run again: remove that directory to run it anew, and
runs/results/curves to compute it anew.
"""

import itertools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from learned_aggregation.pretrained.card import read_card
from learned_aggregation.pretrained.names import pretrained_directory, pretrained_names
from learned_aggregation.report.files import Csv, numbers, read_csv, read_json
from learned_aggregation.report.measures import Measure, is_metric, metric_of, read_measures
from learned_aggregation.report.statistics import standard_error

ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / "config" / "results"
RUNS = Path("runs") / "results"
PAGE = ROOT / "docs" / "results.md"

OWN = "lagg-set"
IN_DISTRIBUTION = "In distribution: "
OUT_OF_DISTRIBUTION = "Out of distribution: "
FRESH = "Never looked at: "
RIVALS = ("FedAvg", "SlowMo", "Nesterov")
PLAIN = Measure()
SURE = 2.0
"""Standard errors of the paired difference from which on it counts as a win or a loss."""


LISTED = re.compile(r"^#   (\w+): (.+?)\.((?: --\w+ \S+)*)$", re.MULTILINE)
"""A comparison in a config's header: `#   NAME: TITLE. FLAGS`."""


class Comparison(NamedTuple):
    """What is to be run: `flags` go over the settings of the file `config`; the run's files go to RUNS / name."""

    name: str
    title: str
    config: Path
    flags: Sequence[str]


class Curves(NamedTuple):
    """A method's test loss [S, E], at `rounds` [E], and its row of table.csv.

    others: the last value [S] of each further metric of the test split, by column of rounds.csv.
    """

    rounds: np.ndarray
    loss: np.ndarray
    row: Mapping[str, str]
    others: Mapping[str, np.ndarray]

    @property
    def mean(self) -> np.ndarray:
        """Over all evaluations but the first, made before training [S]."""
        return self.loss[:, 1:].mean(axis=1)

    @property
    def last(self) -> np.ndarray:
        """[S]."""
        return self.loss[:, -1]


class Setting(NamedTuple):
    """One comparison.

    edges: options of classical rules that were chosen at the edge of their grid.
    measures: of the task's test metrics besides the loss, by column of rounds.csv.
    """

    name: str
    title: str
    methods: Mapping[str, Curves]
    edges: Sequence[str]
    measures: Mapping[str, Measure]

    @property
    def inside(self) -> bool:
        """Whether the learned aggregators were meta-trained on this task, K, H and partition."""
        return self.title.startswith(IN_DISTRIBUTION)

    def by(self, rule: str, criterion: str) -> Curves | None:
        """The rule as tuned by the criterion, or untuned; None where it did not take part."""
        return self.methods.get(f"{rule} (by {criterion})", self.methods.get(rule))


def main() -> int:
    """Runs what is missing, then writes the page."""
    wanted = comparisons(CONFIGS)
    run_missing(wanted, RUNS)
    PAGE.write_text(page([read_setting(name, title, RUNS / name) for name, title, _, _ in wanted]))
    print(f"results: {PAGE}", file=sys.stderr)
    return 0


def run_missing(wanted: Sequence[Comparison], runs: Path, flags: Sequence[str] = ()) -> None:
    """Runs every comparison without a table; one that was killed goes on with the curves that it kept."""
    for name, _, config, own_flags in wanted:
        if ((run := runs / name) / "table.csv").is_file():
            continue
        shutil.rmtree(run, ignore_errors=True)
        print(f"results: {name}", file=sys.stderr, flush=True)
        command = [sys.executable, str(ROOT / "src" / "main.py"), "--config", str(config.relative_to(ROOT))]
        kept = ["--run_dir", str(run), "--curves_dir", str(runs / "curves")]
        subprocess.run([*command, *own_flags, *flags, *kept], check=True, cwd=ROOT)


def comparisons(configs: Path) -> list[Comparison]:
    """The comparisons of a directory of configs: those that a header lists, else the file, by its name and first line.

    Raises:
      ValueError: two of one name.
    """
    found: dict[str, Comparison] = {}
    for config in sorted(configs.glob("*.py")):
        text = config.read_text()
        first = text.partition("\n")[0].removeprefix("# ").rstrip(".")
        for name, title, flags in LISTED.findall(text) or [(config.stem, first, "")]:
            if name in found:
                raise ValueError(f"{config}: a comparison named {name} is in {found[name].config} too")
            found[name] = Comparison(name, title, config, flags.split())
    return list(found.values())


def read_setting(name: str, title: str, run: Path) -> Setting:
    """A finished comparison."""
    rounds_csv, table = read_csv(run / "rounds.csv"), read_csv(run / "table.csv")
    assert rounds_csv is not None, run
    assert table is not None, run
    about = read_json(run / "run.json")
    others = [name for name, texts in rounds_csv.columns.items() if _is_further(name) and any(texts)]
    methods = {}
    for i, label in enumerate(table.column("entrant")):
        at, loss = by_seed(rounds_csv, "test_loss", label)
        last = {name: by_seed(rounds_csv, name, label)[1][:, -1] for name in others}
        methods[label] = Curves(at, loss, {name: texts[i] for name, texts in table.columns.items()}, last)
    notes = about.get("notes", [])
    edges = [note.partition(" on ")[0] + ": " + note.rpartition("; ")[2] for note in notes if "edge" in note]
    known, task = read_measures(about), (table.column("task") or [""])[0]
    return Setting(name, title, methods, edges, {name: known.of(name, task) for name in others})


def _is_further(column: str) -> bool:
    return is_metric(column) and column.startswith("test_") and metric_of(column) != "loss"


def by_seed(rounds_csv: Csv, column: str, label: str) -> tuple[np.ndarray, np.ndarray]:
    """The rounds [E] at which a method was evaluated, and a column's values [S, E] at them."""
    values, present = numbers(rounds_csv.column(column))
    shown = present & (np.array(rounds_csv.column("optimizer")) == label)
    seeds, rounds = (np.array(rounds_csv.column(name), int) for name in ("seed", "round"))
    by_seed = np.stack([values[shown & (seeds == seed)] for seed in np.unique(seeds[shown])])
    return np.unique(rounds[shown]), by_seed


def paired(own: np.ndarray, rival: np.ndarray) -> tuple[float, float]:
    """The mean difference over seeds, and in its standard errors; below zero: `own` is better.

    A run that diverged is infinitely worse.
    """
    own, rival = (np.where(np.isfinite(values), values, np.inf) for values in (own, rival))
    if np.isinf(own).any() or np.isinf(rival).any():
        worse = float(np.isinf(own).any()) - float(np.isinf(rival).any())
        return (worse * np.inf, worse * np.inf) if worse else (0.0, 0.0)
    difference = own - rival
    return float(difference.mean()), float(difference.mean() / standard_error(difference))


def verdict(errors: float) -> str:
    """win, tie or loss, of a difference in standard errors."""
    return "win" if errors <= -SURE else "loss" if errors >= SURE else "tie"


def page(settings: Sequence[Setting]) -> str:
    """docs/results.md."""
    settings = sorted(
        settings, key=lambda setting: re.sub(r"\d+", lambda number: number[0].zfill(3), setting.title)
    )
    inside = [setting for setting in settings if setting.inside]
    outside, fresh = (
        [setting for setting in settings if setting.title.startswith(kind)]
        for kind in (OUT_OF_DISTRIBUTION, FRESH)
    )
    parts = [_opening(settings), "## In distribution", _inside_note(), _inside_table(inside)]
    parts += [_setting_table(setting) for setting in inside]
    for heading, note, found in (
        ("## Out of distribution: one checkpoint, `lagg-set`", _outside_note(), outside),
        ("## Problems never looked at before: the same checkpoint", _fresh_note(), fresh),
    ):
        parts += [heading, note, _outside_table(found), _counts(found)] if found else []
    parts += ["## Where it loses", _losses(settings), "## What meta-training cost", _cost()]
    edges = [f"- {setting.title}: {edge}" for setting in settings for edge in setting.edges]
    if edges:
        parts += ["## Grids whose best point lay on an edge", "\n".join(edges)]
    return "\n\n".join(parts) + "\n"


def _opening(settings: Sequence[Setting]) -> str:
    seeds = min(len(curves.loss) for setting in settings for curves in setting.methods.values())
    return f"""# Results

Written by `make results` (all runs) from `config/results/`; do not edit. Test loss after every other one of 100 rounds,
{seeds} seeds, the same for all. Every rule is tuned on `outer_valid` with 3 other seeds: "by mean" for the lowest mean
loss over the rounds, "by last" for the lowest last one, over the grids in `config/_base_/results.py` (10 local rates;
SlowMo and Nesterov: 5 local rates, slow steps up to 3 mean deltas, 4 momenta; on glyphs with a conv net and on text
fewer), which grow beyond an edge that the best point lies on, up to five times. SlowMo and Nesterov are written as
server momentum in units of the mean delta, over which it is the same rule. lagg-set and lagg-set-digits-noniid with
their networks off are FedAvg; lagg-set-digits is heavy-ball momentum .6, a row of its own. ± is one standard error
over seeds; differences are paired over seeds and given in their standard errors, below zero where the learned one is
better: from -2 on a win, from 2 on a loss, else a tie."""


def _inside_note() -> str:
    return """Task, K, H and partition that they were meta-trained on, with new seeds and held-out images. `seed 1` and
`seed 2` are two more meta-trainings with other meta-seeds. Columns of the first table: rounds to the loss that FedAvg
(by last) ends at, of 100, with the 95 % interval; then paired differences in standard errors, of the mean loss to each
rival (by mean), of the last loss to each rival (by last). lagg-set itself saw Dirichlet 0.1 with H = 4 only. `test` was
looked at for IID digits before lagg-set-digits-noniid was thought of, never for it."""


def _inside_table(settings: Sequence[Setting]) -> str:
    columns = [(rival, criterion) for criterion in ("mean", "last") for rival in RIVALS]
    heads = [f"{criterion}: {rival}" for rival, criterion in columns]
    lines = ["| | | rounds, speed-up | " + " | ".join(heads) + " |", "|---|---|---|" + "---|" * len(heads)]
    for setting in settings:
        for own in _learned(setting):
            found = [_best_difference(setting, own, rival, criterion)[1] for rival, criterion in columns]
            title = setting.title.removeprefix(IN_DISTRIBUTION)
            told = " | ".join("" if np.isnan(e) else f"{verdict(e)} ({e:+.1f})" for e in found)
            lines.append(f"| {title} | {own} | {rounds_told(setting.methods[own].row)} | {told} |")
    return "\n".join(lines)


def _learned(setting: Setting) -> list[str]:
    names = [name for name in setting.methods if name.startswith(("lagg", "lopt"))]
    return [name for name in names if not name.endswith("(by last)")]


def _best_difference(setting: Setting, own: str, rival: str, criterion: str) -> tuple[float, float]:
    mine, theirs = setting.by(own, criterion), setting.by(rival, criterion)
    if mine is None or theirs is None:
        return float("nan"), float("nan")
    return paired(getattr(mine, criterion), getattr(theirs, criterion))


def _setting_table(setting: Setting) -> str:
    further = [f"last {_named(name, measure)}" for name, measure in setting.measures.items()]
    heads = ["mean loss", "last loss", *further, "rounds to FedAvg's last loss", "MB to it", "chosen"]
    lines = [
        f"### {setting.title.removeprefix(IN_DISTRIBUTION)}\n",
        f"| | {' | '.join(heads)} |",
        "|---|" + "---|" * len(heads),
    ]
    for label, curves in setting.methods.items():
        last = [with_error(curves.others[name], measure) for name, measure in setting.measures.items()]
        cells = [with_error(curves.mean), with_error(curves.last), *last, rounds_told(curves.row)]
        cells += [_megabytes(curves.row), chosen(curves.row)]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _named(column: str, measure: Measure) -> str:
    return metric_of(column).replace("_", " ") + (f" ({measure.unit})" if measure.unit else "")


def _outside_note() -> str:
    return """No setting's combination of task, K, H and partition was meta-trained on, but the digits settings lie near
some that were: digits with K = 8 and, at H = 2, K = 32; Dirichlet 0.1 with 4 and 8 of 64 clients at
rates up to 1. The problems with K = 32 and with 4 clients joined the mixture after an earlier lagg-set
had lost on settings of this table (the largest rate, last losses at K = 16 and 32), so that for these the
table is not a first look. The base was then chosen on `outer_valid`."""


def _fresh_note() -> str:
    return """Chosen, with their grids, and committed before any of them was run; after that only rivals and seeds that
this table does not use were taken out of the two with conv nets, for time. FedAvg's last loss on text is
at a rate that three tuning seeds survived and four of ten did not. New are the tasks (26 and 62 glyphs, fonts
as clients, conv nets on other images, longer text), the partitions (two classes a client, Dirichlet 1.0) and
K = 2 and 64."""


def _outside_table(settings: Sequence[Setting]) -> str:
    rules = ("FedAvg", "SlowMo", OWN)
    lines = [
        "| | " + " | ".join(f"{rule}: mean, last" for rule in rules) + " | against FedAvg | against SlowMo |",
        "|---|" + "---|" * (len(rules) + 2),
    ]
    for setting in settings:
        found = []
        for rule in rules:
            mean, last = setting.by(rule, "mean"), setting.by(rule, "last")
            found.append("" if mean is None or last is None else f"{number(mean.mean)}, {number(last.last)}")
        for rival in ("FedAvg", "SlowMo"):
            found.append(", ".join(_judged(setting, rival, criterion) for criterion in ("mean", "last")))
        lines.append(f"| {setting.title.partition(': ')[2]} | " + " | ".join(found) + " |")
    return "\n".join(lines)


def number(values: np.ndarray) -> str:
    return f"{values.mean():.4f}" if np.isfinite(values).all() else "diverged"


def _judged(setting: Setting, rival: str, criterion: str) -> str:
    errors = _best_difference(setting, OWN, rival, criterion)[1]
    return f"{verdict(errors)} ({errors:+.1f})"


def _counts(settings: Sequence[Setting]) -> str:
    lines = []
    for rival in ("FedAvg", "SlowMo"):
        for criterion in ("mean", "last"):
            found = [verdict(_best_difference(setting, OWN, rival, criterion)[1]) for setting in settings]
            lines.append(f"- {criterion} loss against {rival} (by {criterion}): {tally(found)}")
    diverged = [
        c.title for c in settings if not all(np.isfinite(c.by(OWN, k).loss).all() for k in ("mean", "last"))
    ]
    lines.append(f"- diverged: {', '.join(diverged) if diverged else 'never'}")
    return "\n".join(lines)


def tally(found: Sequence[str]) -> str:
    named = (
        f"{found.count(name)} {plural}"
        for name, plural in (("win", "wins"), ("tie", "ties"), ("loss", "losses"))
    )
    return f"{', '.join(named)} of {len(found)}"


def _losses(settings: Sequence[Setting]) -> str:
    lines = []
    for setting in settings:
        for own, rival, criterion in itertools.product(_learned(setting), RIVALS, ("mean", "last")):
            difference, errors = _best_difference(setting, own, rival, criterion)
            if verdict(errors) == "loss":
                lines.append(
                    f"- {setting.title}: {own}, {criterion} loss against {rival} (by {criterion}), by {difference:.4f} "
                    f"({errors:+.1f})"
                )
    return "\n".join(lines) or "Nowhere in these settings."


def _cost() -> str:
    lines = [
        "Wall times are those of the runs themselves, some of them beside other work on the same cores.\n",
        "| | outer steps | wall time | machine | theta |",
        "|---|---|---|---|---|",
    ]
    for name in pretrained_names():
        card = read_card(pretrained_directory(name) or Path())
        lines.append(
            f"| [{name}](../checkpoints/pretrained/{name}/README.md) | {card.cost['outer_steps']} | "
            f"{card.cost['wall_time_s'] / 60:.1f} min | {card.cost['machine']['cores']} cores | "
            f"{card.num_parameters} numbers |"
        )
    return "\n".join(lines)


def with_error(values: np.ndarray, measure: Measure = PLAIN) -> str:
    if not np.isfinite(values).all():
        return f"diverged ({(~np.isfinite(values)).sum()} of {len(values)})"
    mean, error = measure.scale * values.mean(), measure.scale * standard_error(values)
    return f"{mean:.2f} ± {error:.2f}" if measure.unit == "%" else f"{mean:.4f} ± {error:.4f}"


def rounds_told(row: Mapping[str, str]) -> str:
    value, low, high = (float(row[f"rounds_to_100{end}"]) for end in ("", "_low", "_high"))
    speed = f", {float(row['speedup_100']):.1f}x" if np.isfinite(value) else ""
    return f"{_count(value)} [{_count(low)}, {_count(high)}]{speed}"


def _count(value: float) -> str:
    return f"{value:.0f}" if np.isfinite(value) else "-"


def _megabytes(row: Mapping[str, str]) -> str:
    value = float(row["bytes_to_target"])
    return f"{value / 1e6:.1f}" if np.isfinite(value) else "-"


def chosen(row: Mapping[str, str]) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {value:g}" for name, value in json.loads(row["tuned"]).items()
    )


if __name__ == "__main__":
    sys.exit(main())
