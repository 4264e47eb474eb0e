"""metrics.csv: one line per logged step, readable while the run goes on."""

import csv
import errno
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from learned_aggregation.atomic import disk_error, write_atomic
from learned_aggregation.errors import UserError

FILE_NAME = "metrics.csv"


def make(run_dir: str | Path, *, resume_step: int | None, **_: Any) -> "CsvTracker":
    """`metrics.csv` in the run's directory."""
    return CsvTracker(Path(run_dir) / FILE_NAME, resume_step)


class CsvTracker:
    """Appends rows to a CSV file, each at once.

    The header is `step` and the names of the first row. A name that appears later gets a column at
    the end, empty in the rows before it; a name that is missing from a row leaves its cell empty.

    Args:
      path: of the file; missing directories are made.
      resume_step: keep the rows up to this step and drop those after it and a line cut by a kill,
        so that the resumed file equals that of an undisturbed run. None starts a new file.
    Raises:
      UserError: the file to resume is not a metrics file.
      RunError: the disk is full or not writable.
    """

    def __init__(self, path: str | Path, resume_step: int | None = None):
        self._path = Path(path)
        self._columns: list[str] = []
        kept: list[list[str]] = []
        if resume_step is not None:
            self._columns, rows = _read(self._path)
            kept = [row for row in rows if int(row[0]) <= resume_step]
        # A column that only dropped rows filled would not exist in an undisturbed run.
        while len(self._columns) > 1 and not any(row[len(self._columns) - 1] for row in kept):
            self._columns.pop()
        self._rewrite(kept)

    def log(self, step: int, row: Mapping[str, float]) -> None:
        """Appends one row, unless it is empty; numbers are written so that they read back exactly."""
        if not row:
            return
        if not self._columns or any(name not in self._columns for name in row):
            self._add_columns(row)
        line = _text([[str(int(step)), *(_cell(row.get(name)) for name in self._columns[1:])]])
        try:
            # Unbuffered, so that a full disk shows here and not again when the file is closed.
            if self._file.write(line.encode()) < len(line.encode()):
                raise OSError(errno.ENOSPC, "only part of the row was written")
        except OSError as error:
            raise disk_error(self._path, error, "resume with --from_checkpoint") from error

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _add_columns(self, row: Mapping[str, float]) -> None:
        rows = _read(self._path)[1] if self._columns else []
        old = self._columns or ["step"]
        self._columns = [*old, *(name for name in row if name not in old)]
        self._file.close()
        self._rewrite(rows)

    def _rewrite(self, rows: Iterable[list[str]]) -> None:
        width = len(self._columns)
        padded = [row[:width] + [""] * (width - len(row)) for row in rows]
        write_atomic(self._path, _text([self._columns, *padded] if width > 1 else []))
        try:
            self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise disk_error(self._path, error, "run again") from error


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    """(columns, complete rows); a last line without its newline was cut by a kill."""
    if not path.exists():
        return [], []
    text = path.read_bytes().decode("utf-8", errors="replace")
    try:
        lines = list(csv.reader(io.StringIO(text[: text.rfind("\n") + 1], newline=""), strict=True))
    except csv.Error:
        lines = [[]]
    if not lines:
        return [], []
    columns, rows = lines[0], lines[1:]
    if columns[:1] != ["step"] or not all(_is_row(row, len(columns)) for row in rows):
        raise UserError(
            f"{path}: expected the metrics of the run to resume, got a file of another kind. "
            "Move it away, or start without --from_checkpoint."
        )
    return columns, rows


def _is_row(row: list[str], width: int) -> bool:
    """Whether it is one of ours: a step, then numbers or empty cells."""
    if len(row) != width or not row[0].isdecimal() or len(row[0]) > 15:
        return False
    try:
        return all(cell == "" or float(cell) is not None for cell in row[1:])
    except ValueError:
        return False


def _text(lines: Iterable[Iterable[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(lines)
    return buffer.getvalue()


def _cell(value: Any) -> str:
    return "" if value is None else repr(int(value) if isinstance(value, int) else float(value))
