"""Additions to the package as somebody would make them: new files, and the lines in the files that there are.

Each file here is one, named as in NAMES, and has ADDITION. It is made in a copy of the package and used from there by
its script; counted are the files and lines of the package that it has to change besides its new files.

    PYTHONPATH=src:tests python -m additions rule    makes one, prints the count as JSON
"""

import difflib
import importlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from benchmarks.checkout import ROOT, environment, package_of

NAMES = {
    "rule": "a rule with a new float option",
    "data_set": "a data set",
    "masked_task": "a self-supervised task with a mask drawn at each step",
    "static_freezing": "static freezing",
    "compressor": "a compressor",
    "split_work": "a client work that trains two halves",
}
"""What is added, by the name of its file here."""
MOST_FILES = 2
"""Files of the package that an addition may change besides its new ones."""


class Edit(NamedTuple):
    """A line put into a file of the package. after: the line before it, that occurs once, without its indentation."""

    path: str
    after: str
    line: str


class Addition(NamedTuple):
    """files: new ones, by their paths in the package. script: a program that uses it; it fails where that fails."""

    files: Mapping[str, str]
    edits: tuple[Edit, ...]
    script: str


class Count(NamedTuple):
    """changed: files that were there -> lines that are new or gone in them. new: new files -> their lines."""

    changed: dict[str, int]
    new: dict[str, int]

    @property
    def met(self) -> bool:
        return len(self.changed) <= MOST_FILES


def addition(name: str) -> Addition:
    """The addition of that name."""
    return importlib.import_module(f"additions.{name}").ADDITION


def missing(name: str) -> str:
    """The file that an addition should have and has not; "" where it is there."""
    path = Path(__file__).with_name(f"{name}.py")
    return "" if path.is_file() else f"tests/additions/{path.name}"


def apply(what: Addition, package: Path) -> None:
    """Writes the new files and lines.

    Raises:
      ValueError: a new file that is there, or a line to put something after that is not there once.
    """
    for path, text in what.files.items():
        if (package / path).exists():
            raise ValueError(f"{path}: expected no such file, got one. An addition's own files are new.")
        (package / path).parent.mkdir(parents=True, exist_ok=True)
        (package / path).write_text(text)
    for path, after, line in what.edits:
        lines = (package / path).read_text().splitlines()
        at = [i for i, text in enumerate(lines) if text.strip() == after]
        if len(at) != 1:
            raise ValueError(
                f"{path}: expected the line {after!r} once, got it {len(at)} times. Change the addition."
            )
        indentation = lines[at[0]][: -len(lines[at[0]].lstrip())]
        lines.insert(at[0] + 1, indentation + line)
        (package / path).write_text("\n".join(lines) + "\n")


def count(before: Path, after: Path) -> Count:
    """How two copies of the package differ, counted from the files."""
    old, new = ({path.relative_to(root): path for path in root.rglob("*.py")} for root in (before, after))
    changed = {str(name): _lines(path, new.get(name)) for name, path in old.items()}
    added = {str(name): len(path.read_text().splitlines()) for name, path in new.items() if name not in old}
    return Count({name: lines for name, lines in changed.items() if lines}, added)


def _lines(old: Path, new: Path | None) -> int:
    texts = [path.read_text().splitlines() if path else [] for path in (old, new)]
    return sum(line[:2] in ("+ ", "- ") for line in difflib.ndiff(*texts)) if texts[0] != texts[1] else 0


def make(what: Addition) -> Count:
    """Makes an addition in a copy of the package and runs its script on the copy.

    Raises:
      subprocess.CalledProcessError: the script failed.
    """
    with tempfile.TemporaryDirectory() as directory:
        tree, ours = Path(directory), package_of(ROOT)
        copy = package_of(tree)
        shutil.copytree(ours, copy, ignore=shutil.ignore_patterns("__pycache__"))
        apply(what, copy)
        found = count(ours, copy)
        command = [sys.executable, "-c", what.script, str(copy)]
        subprocess.run(command, cwd=tree, env=environment(tree), check=True, stdout=subprocess.DEVNULL)
        return found
