"""Measures what a claim asks and says what of it is met: `make claims CLAIM=round`.

Reads the measurements in runs/claims/NAME/, runs what is missing (killed, the same command goes on with what is missing
then), prints the table and writes docs/claims/NAME.md. `AGAIN=key` measures a line anew, `AGAIN=all` every line.
Exit status: 0 all met; 1 not; 2 no such claim or line.
"""

import argparse
import datetime
import importlib.util
import json
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from benchmarks.checkout import ROOT, environment, source_hash
from benchmarks.claims import Claim, Row
from learned_aggregation.atomic import write_atomic
from learned_aggregation.errors import UserError
from learned_aggregation.registry import nearest

FORMAT = 1
KEY = re.compile(r"[a-z0-9][a-z0-9_-]*")
HARNESS = ("__init__", "run")
"""The files beside the claims that are none."""
DAMAGED = (KeyError, TypeError, ValueError, AttributeError, IndexError, ZeroDivisionError)
"""What reading JSON of another form raises."""


class Places(NamedTuple):
    """The claims' files; where their measurements and pages go."""

    claims: Path = ROOT / "benchmarks" / "claims"
    runs: Path = ROOT / "runs" / "claims"
    pages: Path = ROOT / "docs" / "claims"


class Measurement(NamedTuple):
    """A finished command: what its last line said, and what that was measured with."""

    found: Any
    commit: str
    source: str
    date: str
    machine: str
    seconds: float


def names(places: Places) -> list[str]:
    """The claims there are."""
    return sorted(path.stem for path in places.claims.glob("*.py") if path.stem not in HARNESS)


def load(name: str, places: Places) -> ModuleType:
    """The claim's module.

    Raises:
      UserError: there is no such claim, or two of its lines have one key.
    """
    if name not in names(places):
        raise UserError(
            f"claim: expected one of {', '.join(names(places))}, got {name!r}.{nearest(name, names(places))}"
        )
    spec = importlib.util.spec_from_file_location(f"benchmarks.claims.{name}", places.claims / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def check_keys(name: str, claims: Sequence[Claim]) -> None:
    """Refuses keys that are not the name of one file for each line."""
    keys = [claim.key for claim in claims]
    for key in keys:
        if not KEY.fullmatch(key) or keys.count(key) > 1:
            raise UserError(
                f"claim {name}: expected keys of lower-case letters, digits, - and _, one for each line, got {key!r}. "
                "Rename it."
            )


def keys_of(again: str, claims: Sequence[Claim]) -> set[str]:
    """The keys that a comma list names; "all" names every one.

    Raises:
      UserError: a key that no line has.
    """
    known = [claim.key for claim in claims]
    asked = [key for key in again.split(",") if key]
    for key in asked:
        if key not in (*known, "all"):
            raise UserError(
                f"again: expected keys among {', '.join(known)}, got {key!r}.{nearest(key, known)}"
            )
    return set(known) if "all" in asked else set(asked)


def read(path: Path, name: str, claim: Claim, source: str) -> Measurement | str:
    """The measurement kept in a file, or why it must be made anew; "" where there is no file."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        return f"{path}: expected JSON, got {type(error).__name__}"
    expected = {"format": FORMAT, "claim": name, "key": claim.key, "command": list(claim.command)}
    try:
        for what, value in expected.items():
            if content[what] != value:
                return f"{path}: expected {what} {value!r}, got {content[what]!r}"
        kept = Measurement(*(content[field] for field in Measurement._fields))
        texts = (kept.commit, kept.source, kept.date, kept.machine)
        if not all(isinstance(text, str) for text in texts) or not isinstance(kept.seconds, float):
            return f"{path}: expected a measurement, got other types"
        claim.judge(kept.found)
    except DAMAGED as error:
        return f"{path}: expected a measurement, got {type(error).__name__}: {error}"
    if claim.fresh and kept.source != source:
        return f"{path}: expected one of the package as it is, got one of commit {kept.commit}"
    return kept


def measure(claim: Claim, source: str) -> Measurement | str:
    """Runs the command; its last line is what it found. A text says why there is none."""
    began, lines = time.monotonic(), []
    process = subprocess.Popen(
        [sys.executable, *claim.command],
        cwd=ROOT,
        env=environment(ROOT, ROOT / "tests"),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            if len(lines) > 1:
                say(lines[-2])
        status = process.wait()
    except BaseException:
        _stop(process)
        raise
    if status:
        return f"exit status {status}"
    try:
        found = json.loads(lines[-1])
        claim.judge(found)
    except (IndexError, ValueError):
        return "no JSON in its last line"
    except DAMAGED as error:
        return f"another form of JSON in its last line ({type(error).__name__}: {error})"
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M")
    return Measurement(found, commit(), source, date, machine(), time.monotonic() - began)


def _stop(process: subprocess.Popen) -> None:
    """As from the keyboard, so that a command takes its temporary files away; then by force."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def commit() -> str:
    """The checkout's commit, with a note where files differ from it."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty=, with changes", "--exclude=*"],
            cwd=ROOT,
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return described.stdout.strip()


def machine() -> str:
    """Processor, cores and the versions that figures depend on."""
    model = platform.processor() or platform.machine()
    try:
        models = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        models = []
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} cores, {models[0] if models else model}, jax {version('jax')}"


def rows(name: str, claims: Iterable[Claim], again: set[str], places: Places) -> Iterator[Row]:
    """One for each claim; what is measured is kept before the next one is."""
    source = source_hash(ROOT)
    for claim in claims:
        where, path = f"{name}/{claim.key}", places.runs / name / f"{claim.key}.json"
        shown = shlex.join(["python", *claim.command])
        missing = claim.needs()
        if missing:
            yield Row(claim.asked, shown, f"not measured here: needs {missing}", "", None, claim.optional)
            continue
        kept = read(path, name, claim, source)
        if isinstance(kept, str) or claim.key in again:
            if isinstance(kept, str) and kept:
                say(f"claims: {where}: {kept}; measured anew")
            say(f"claims: {where}: {shown}")
            kept = measure(claim, source)
            if isinstance(kept, str):
                say(f"claims: {where}: failed: {kept}")
                yield Row(claim.asked, shown, f"failed: {kept}", "", False, claim.optional)
                continue
            head = {"format": FORMAT, "claim": name, "key": claim.key, "command": list(claim.command)}
            write_atomic(path, json.dumps(head | kept._asdict(), indent=1) + "\n")
        verdict = claim.judge(kept.found)
        old = "" if kept.source == source else f" (of commit {kept.commit})"
        say(f"claims: {where}: {verdict.figure}{old}, {'met' if verdict.met else 'not met'}")
        measured = f"{claim.key}: {kept.date}, commit {kept.commit}, {kept.seconds:.0f} s; {kept.machine}"
        figure = f"{verdict.figure}{old}"
        yield Row(claim.asked, shown, figure, verdict.spread, verdict.met, claim.optional, measured)


COLUMNS = ("asked", "figure", "spread", "met", "command")


def cells(row: Row) -> tuple[str, ...]:
    met = "not measured" if row.met is None else "yes" if row.met else "**no**"
    optional = " (optional)" if row.optional else ""
    return row.asked, row.figure, row.spread, met + optional, f"`{row.command}`"


def _plain(cell: str) -> str:
    """On one line, and without the character that ends a cell."""
    return " ".join(cell.replace("|", "\\|").split())


def table(found: Sequence[Row]) -> str:
    """A Markdown table that can be read as it is."""
    lines = [COLUMNS, *(tuple(_plain(cell) for cell in cells(row)) for row in found)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(COLUMNS))]
    rule = tuple("-" * width for width in widths)
    padded = [
        [cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in [*lines, rule]
    ]
    texts = [f"| {' | '.join(line)} |" for line in padded]
    return "\n".join([texts[0], texts[-1], *texts[1:-1]])


def summary(found: Sequence[Row]) -> str:
    met = sum(row.counts_as_met for row in found)
    return f"{met} of {len(found)} met." if met < len(found) else f"All {met} met."


def page(name: str, title: str, found: Sequence[Row]) -> str:
    """docs/claims/NAME.md."""
    measured = "\n".join(f"- {row.measured}" for row in found if row.measured)
    return f"""# {title}

Written by `make claims CLAIM={name}`, not by hand. Commands run in the repository with `PYTHONPATH=src:tests`.
{summary(found)}

{table(found)}

Measured:

{measured}
"""


def terminated(*_: Any) -> None:
    raise SystemExit(143)


def main(argv: Sequence[str] | None = None, places: Places | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", nargs="?", default="", help="which claim")
    parser.add_argument("--again", default="", metavar="KEY[,KEY]", help="lines to measure anew, or all")
    asked = parser.parse_args(argv)
    places = places or Places()
    try:
        module = load(asked.name, places)
        claims = module.claims()
        check_keys(asked.name, claims)
        found = list(rows(asked.name, claims, keys_of(asked.again, claims), places))
        write_atomic(places.pages / f"{asked.name}.md", page(asked.name, module.TITLE, found))
    except UserError as error:
        say(f"error: {error}")
        return error.exit_status
    except KeyboardInterrupt:
        return 130
    print(f"{table(found)}\n\n{summary(found)} {places.pages / asked.name}.md", flush=True)
    return 0 if all(row.counts_as_met for row in found) else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, terminated)
    sys.exit(main())
