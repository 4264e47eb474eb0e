"""A CSV file of a run, written whole from rows that need not have the same columns."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from learned_aggregation.atomic import write_atomic


def united(lists: Iterable[Iterable[str]]) -> list[str]:
    """All names once; those that only a later list has come right after their neighbour in that list.

    Example:
      >>> united([["task", "test_loss", "tuned"], ["task", "test_loss", "test_r2", "tuned"]])
      ['task', 'test_loss', 'test_r2', 'tuned']
    """
    found: list[str] = []
    for names in lists:
        place = 0
        for name in names:
            if name in found:
                place = found.index(name) + 1
            else:
                found.insert(place, name)
                place += 1
    return found


def write_csv(
    path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], *, then: str = "run again"
) -> None:
    """Writes the file atomically; a column that a row lacks is empty in it.

    Args:
      then: see `write_atomic`.
    Raises:
      RunError: the disk refused.
      ValueError: a row has a column that is not among `columns`.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, text.getvalue(), then=then)
