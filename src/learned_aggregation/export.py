"""`python -m learned_aggregation.export`: a finished meta-training run as a pretrained aggregator with its card."""

import argparse
import contextlib
import hashlib
import math
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from learned_aggregation.atomic import write_atomic
from learned_aggregation.build import (
    aggregator_options,
    completed,
    model_ranges,
    rates_of,
    theta_settings,
    trained_on,
)
from learned_aggregation.config.card_flags import by_optimizer, ranges_of
from learned_aggregation.config.resolve import Config, load_config, meta_train_name
from learned_aggregation.config.resumed import resumed_lines
from learned_aggregation.config.settings import INNER, META, SETTINGS
from learned_aggregation.errors import RunError, UserError
from learned_aggregation.pretrained.card import (
    CARD_FILE,
    RANGES,
    README_FILE,
    STAGED,
    THETA_FILE,
    Card,
    card_text,
    parse_card,
    read_card,
    readme_text,
    staged_theta,
)
from learned_aggregation.pretrained.drop_in import DropIn
from learned_aggregation.pretrained.theta_file import load_theta, theta_bytes
from learned_aggregation.registry import is_outside
from learned_aggregation.report.files import numbers, read_csv, read_json, read_text
from learned_aggregation.runs.lock import lock
from learned_aggregation.streams import say

_COLUMNS = ("step", "meta_loss", "elapsed_s")

CURVE_POINTS = 20
"""Rows of the card's meta-loss curve, each the mean over its part of the run."""

RESULT_COLUMNS = (
    "task",
    "entrant",
    "seeds",
    "rounds_to_50",
    "rounds_to_100",
    "speedup_100",
    "speedup_100_low",
    "speedup_100_high",
    "test_loss",
    "test_loss_ci95",
)
"""What a card takes from the table.csv of a comparison."""


def main(argv: Sequence[str] | None = None) -> int:
    """Writes or updates a pretrained aggregator's directory.

    Returns:
      0; 2 for bad input and 1 for a disk that refused, each with one line on stderr.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    asked = _parser().parse_args(argv)
    directory = Path(asked.to) / asked.name
    try:
        # A name that is not there yet is held by nobody; what is written to it is whole whoever comes first.
        with lock(directory) if directory.is_dir() else contextlib.nullcontext():
            if asked.run is not None:
                command = shlex.join(["python", "-m", "learned_aggregation.export", *argv])
                export_run(Path(asked.run), directory, checkpoint=asked.checkpoint, command=command)
            change_card(
                directory,
                results=[Path(run) for run in asked.results],
                notes=asked.note,
                ranges=asked.range,
                rates=asked.suggest,
                strengths=asked.strength,
                complete=asked.complete,
            )
    except (UserError, RunError) as error:
        say(f"error: {error}")
        return error.exit_status
    say(f"pretrained: {directory}")
    return 0


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m learned_aggregation.export",
        description="Exports a finished meta-training run as a pretrained aggregator: theta, card, README. "
        "Without --run it adds to the card of one that is there.",
        allow_abbrev=False,
    )
    path = os.path.expanduser  # the shell leaves ~ in --to=~/x alone
    made.add_argument("--name", required=True, help="of the pretrained aggregator, such as lagg-set")
    made.add_argument(
        "--run",
        metavar="DIR",
        type=path,
        help="the run's directory, runs/NAME, with config.py and metrics.csv",
    )
    made.add_argument(
        "--checkpoint",
        metavar="PATH",
        type=path,
        help="the theta to take; default: the run's best, else its latest",
    )
    made.add_argument(
        "--to", metavar="DIR", type=path, default="checkpoints/pretrained", help="default: %(default)s"
    )
    text = (
        "a comparison's directory with table.csv, whose rows go into the card in place of earlier ones of it"
    )
    made.add_argument("--results", metavar="DIR", type=path, nargs="+", default=[], help=text)
    made.add_argument("--note", metavar="TEXT", nargs="+", default=[], help="sentences for the card")
    text = f"meta-trained range of {', '.join(RANGES)}, where the config's one value does not tell it"
    made.add_argument("--range", metavar="NAME=LOW,HIGH", nargs="+", default=[], help=text)
    text = "the local rate that a user should start from, by the clients' optimizer, such as sgd=0.2"
    made.add_argument("--suggest", metavar="OPTIMIZER=RATE", nargs="+", default=[], help=text)
    text = "the rule's strength with clients of that optimizer, such as adamw=0.25"
    made.add_argument("--strength", metavar="OPTIMIZER=NUMBER", nargs="+", default=[], help=text)
    text = "adds what an older card lacks: rounds, sizes of the models and clients' optimizers, from its own settings"
    made.add_argument("--complete", action="store_true", help=text)
    return made


def export_run(run: Path, directory: Path, *, checkpoint: str | None, command: str) -> Card:
    """Writes theta.safetensors, card.json and README.md of a meta-training run.

    Args:
      checkpoint: the theta to take; None is the run's best by its validations, else its latest.
      command: of this export; the card names it after the one that meta-trained.
    Raises:
      UserError: not a meta-training run, a theta that is not finite or does not fit its config.
      RunError: the disk refused.
    """
    config = _run_config(run)
    if is_outside(config.optimizer):
        raise UserError(
            f"{run}: expected a run of a registered rule to export, got {config.optimizer!r}, not for a card. "
            "Register it in a module of custom_imports and meta-train it by that name."
        )
    source = checkpoint or _best_or_latest(Path(config.checkpoints_dir) / meta_train_name(config))
    theta, metadata = load_theta(source)
    step = _step(source, metadata)
    options = aggregator_options(config, rates_of(config))
    # It refuses a theta of another rule.
    rule = DropIn(config.optimizer, theta, options=options, name=str(source))
    if rule.clients is None:
        options.pop("num_grads", None)
    if options.get("strength") == 1.0:
        options.pop("strength")
    content = theta_bytes(theta, theta_settings(config) | metadata)
    trained = trained_on(config)
    card = Card(
        name=directory.name,
        aggregator=config.optimizer,
        options=options,
        theta_sha256=hashlib.sha256(content).hexdigest(),
        num_parameters=sum(leaf.size for leaf in jax.tree.leaves(theta)),
        ranges={name: list(span) for name, span in {**trained.ranges, **_sizes(config)}.items()},
        trained_on=_trained_on(config),
        meta_loss=_curve(_metrics(run), step),
        cost=_cost(run, step),
        command=f"{_meta_train_command(run)}\n{command}",
        notes=resumed_lines(read_text(run / "config.py") or ""),
        local_optimizers=list(trained.local_optimizers),
    )
    _write(directory, card, content)
    return card


def change_card(
    directory: Path,
    *,
    results: Sequence[Path] = (),
    notes: Sequence[str] = (),
    ranges: Sequence[str] = (),
    rates: Sequence[str] = (),
    strengths: Sequence[str] = (),
    complete: bool = False,
) -> Card:
    """Adds to a card: rows of comparisons (in place of earlier rows of the same), notes, ranges, rates, strengths.

    Args:
      ranges: texts "NAME=LOW,HIGH".
      rates, strengths: texts "OPTIMIZER=NUMBER".
      complete: adds what its own `trained_on` tells and an older version did not write; data sets are read for it.
    Raises:
      UserError: no card there, no table.csv in a comparison's directory, a range or a rate that does not parse,
        settings that this version does not know.
    """
    card = read_card(directory)
    card = completed(card) if complete else card
    rows = [row for path in results for row in _result_rows(path)]
    kept = [row for row in card.results if row["source"] not in {path.name for path in results}]
    card = replace(
        card,
        results=[*kept, *rows],
        notes=list(dict.fromkeys([*card.notes, *notes])),
        ranges={**card.ranges, **ranges_of(ranges)},
        suggested_rates={**card.suggested_rates, **by_optimizer("--suggest", rates)},
        strengths={**card.strengths, **by_optimizer("--strength", strengths)},
    )
    _write(directory, card)
    return card


def _write(directory: Path, card: Card, theta: bytes | None = None) -> None:
    """Writes the card, its page and maybe a new theta: the old ones or the new ones, whenever it is killed.

    Both texts are made, and read again, before anything is written. The new theta lies beside the old one until the
    card says that it is the one: see `theta_of`.

    Raises:
      UserError: a text that JSON or UTF-8 cannot hold.
    """
    text = card_text(card)
    page = readme_text(parse_card(directory / CARD_FILE, text))
    staged = directory / staged_theta(card)
    if theta is not None:
        write_atomic(staged, theta)
    write_atomic(directory / CARD_FILE, text)
    if staged.is_file():
        os.replace(staged, directory / THETA_FILE)
    write_atomic(directory / README_FILE, page)
    for left in directory.glob(STAGED):  # of an export that was killed
        left.unlink(missing_ok=True)


def _run_config(run: Path) -> Config:
    if not (run / "config.py").is_file():
        raise UserError(
            f"{run}: expected a meta-training run with config.py, got none. Name a directory such as runs/NAME."
        )
    config = load_config(["--config", str(run / "config.py")])
    if config.run_type != "meta-train":
        raise UserError(
            f"{run}: expected a run of run_type 'meta-train', got {config.run_type!r}. Name another directory."
        )
    return config


def _best_or_latest(checkpoints: Path) -> Path:
    best = checkpoints / "best.safetensors"
    return best if best.is_file() else checkpoints


def _sizes(config: Config) -> dict[str, tuple[int, int]]:
    """Of the inner problems' models; where their data is not at hand, a line says what the card lacks."""
    try:
        return model_ranges(config)
    except UserError as error:
        say(f"card: without the sizes of the models, whose data is not here: {error}")
        return {}


def _trained_on(config: Config) -> dict[str, Any]:
    """The settings of the inner problems and of meta-training that are given."""
    names = ["task", *(row.name for row in SETTINGS.values() if row.group in (INNER, META)), "seed"]
    values = {
        name: getattr(config, name) for name in names if name not in (*RANGES, "local_learning_rate_range")
    }
    if values["problems"]:
        values["task"] = list(dict.fromkeys(t for each in config.inner_problems.values() for t in each.tasks))
    return {name: value for name, value in values.items() if value not in (None, []) and value is not False}


def _step(source: str | Path, metadata: Mapping[str, str]) -> float:
    """The outer step that theta is of, as its file says; inf where it does not."""
    step = metadata.get("step", "inf")
    if step != "inf" and not (step.isdecimal() and len(step) < 16):
        raise UserError(
            f"{source}: metadata: expected step to be a whole number, got {step!r}. Use another theta."
        )
    return float(step)


def _metrics(run: Path) -> list[dict[str, float]]:
    """The rows of metrics.csv that are whole and have numbers where they are needed."""
    path, columns = run / "metrics.csv", []
    table = read_csv(path)
    for name in _COLUMNS:
        values, present = numbers(table.column(name) if table is not None else [])
        columns.append(values.tolist() if present.all() else None)
    if table is None or None in columns:
        raise UserError(
            f"{path}: expected the metrics of a meta-training run, got a file without {', '.join(_COLUMNS)}. "
            "Name another --run."
        )
    return [dict(zip(_COLUMNS, row, strict=True)) for row in zip(*columns, strict=True)]


def _curve(metrics: Sequence[Mapping[str, float]], last: float) -> list[list[float]]:
    rows = [row for row in metrics if row["step"] <= last]
    parts = np.array_split(np.arange(len(rows)), min(CURVE_POINTS, max(len(rows), 1)))
    return [
        [int(rows[part[-1]]["step"]), float(np.mean([rows[i]["meta_loss"] for i in part]))]
        for part in parts
        if len(part)
    ]


def _cost(run: Path, last: float) -> dict[str, Any]:
    """Outer steps, seconds and the machine; the clock starts again whenever a run is resumed."""
    rows = [row for row in _metrics(run) if row["step"] <= last]
    seconds = sum(
        row["elapsed_s"]
        for i, row in enumerate(rows)
        if i + 1 == len(rows) or rows[i + 1]["elapsed_s"] < row["elapsed_s"]
    )
    facts, machine = read_json(run / "run.json"), {}
    if isinstance(facts.get("machine"), dict):
        machine = facts["machine"]
    return {
        "outer_steps": int(rows[-1]["step"]) if rows else 0,
        "wall_time_s": round(seconds, 1),
        "machine": {"device": facts.get("device", ""), **machine},
        "versions": facts.get("versions", {}),
        "date": facts.get("finished", facts.get("started", "")),
    }


def _meta_train_command(run: Path) -> str:
    """The run's command without its resuming; the config is what counts where run.json does not tell one."""
    command = read_json(run / "run.json").get("command", "")
    try:
        words = shlex.split(command) if isinstance(command, str) else []
    except ValueError:  # a quote without its end
        words = []
    return shlex.join([word for word in words if word not in ("--from_checkpoint", "--from_checkpoint=True")])


def _result_rows(run: Path) -> list[dict[str, Any]]:
    path = run / "table.csv"
    table = read_csv(path)
    if table is None:
        raise UserError(f"{path}: expected the table of a comparison, got no table. Name its run directory.")
    rows = (
        dict(zip(table.columns, cells, strict=True)) for cells in zip(*table.columns.values(), strict=True)
    )
    return [
        {"source": run.name} | {name: _value(row[name]) for name in RESULT_COLUMNS if name in row}
        for row in rows
    ]


def _value(text: str) -> Any:
    try:
        number = float(text)
    except ValueError:
        return text
    return round(number, 6) if math.isfinite(number) else "not reached"


if __name__ == "__main__":
    sys.exit(main())
