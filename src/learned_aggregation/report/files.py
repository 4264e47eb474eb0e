"""Reading what a run left behind, even a killed one."""

import contextlib
import csv
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from learned_aggregation.json_text import parse_json


class Csv(NamedTuple):
    """A CSV file by column.

    columns: heading -> its cells as text, all of one length.
    skipped: the number of lines that could not be used (half-written, or of another length than the heading).
    """

    columns: dict[str, list[str]]
    skipped: int

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def column(self, name: str, default: str = "") -> list[str]:
        """The cells of a column, or `default` in every row where there is no such column."""
        return self.columns.get(name, [default] * len(self))


def read_csv(path: Path) -> Csv | None:
    """Reads a CSV file with one heading line; None where there is no file or no heading.

    A last line without a newline was cut off by a kill (its last number may lack digits) and is skipped, as
    is every line that has not as many cells as the heading.
    """
    text = read_text(path)
    if not text or "\n" not in text:
        return None
    text, _, cut = text.translate({0: None, ord("\r"): None}).rpartition("\n")
    heading, *body = map(cells_of, text.split("\n"))
    rows = [row for row in body if len(row) == len(heading) and row != heading]
    cells = list(zip(*rows, strict=True)) or [()] * len(heading)
    columns = {name.strip(): list(column) for name, column in zip(heading, cells, strict=True)}
    return Csv(columns, skipped=sum(map(bool, body)) - len(rows) + bool(cut.strip())) if columns else None


def cells_of(line: str) -> list[str]:
    """The cells of one CSV line, read by itself so that a broken quote spoils no other line."""
    with contextlib.suppress(csv.Error):
        return next(csv.reader([line]), [])
    return [line]


def numbers(cells: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Cells as floats [N], and which cells hold a number [N] (nan and inf do; an empty cell does not)."""
    values, present = np.full(len(cells), np.nan), np.zeros(len(cells), bool)
    for i, cell in enumerate(cells):
        with contextlib.suppress(ValueError):
            values[i], present[i] = float(cell), True
    return values, present


def read_text(path: Path) -> str | None:
    """The text of a file, bytes that are no UTF-8 replaced; None where there is no file that can be read."""
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace")
    return None


_KINDS: dict[str, type] = {
    **dict.fromkeys(("run_type", "name", "command", "device", "started", "finished", "table_note"), str),
    **dict.fromkeys(("metrics", "versions", "machine", "metric", "winner"), dict),
    **dict.fromkeys(("notes", "parameters", "on_edge"), list),
}
"""What the fields of run.json and sweep.json hold."""
_TEXTS = ("notes", "parameters", "on_edge", "metric")
"""Those with texts in them alone."""


def read_json(path: Path) -> dict[str, Any]:
    """The object in a run.json or a sweep.json, without the fields that hold something else than they do when written.

    Empty where there is no file, or none that can be read.
    """
    with contextlib.suppress(ValueError):
        value = parse_json(read_text(path) or "{}", finite=False)
        if isinstance(value, dict):
            return {name: item for name, item in value.items() if _is_of_kind(name, item)}
    return {}


def _is_of_kind(name: str, item: Any) -> bool:
    if not isinstance(item, _KINDS.get(name, object)):
        return False
    values = item.values() if isinstance(item, dict) else item
    return name not in _TEXTS or all(isinstance(value, str) for value in values)
