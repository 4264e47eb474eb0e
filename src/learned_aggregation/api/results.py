"""What a call returns: curves and tables as data, and where the run's files are."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from learned_aggregation.errors import UserError
from learned_aggregation.pretrained.drop_in import DropIn
from learned_aggregation.pretrained.theta_file import load_theta, resolve_theta_path
from learned_aggregation.registry import brought
from learned_aggregation.report.files import read_csv
from learned_aggregation.types import Theta


class Table(Mapping[str, np.ndarray]):
    """A table by column: floats where every cell is a number or empty (NaN), else texts. Labels and names are texts.

    Example:
      >>> table = Table({"round": np.array([0.0, 1.0]), "method": np.array(["a", "b"])})
      >>> len(table["round"]), list(table), table.rows()[1]["method"]
      (2, ['round', 'method'], 'b')
    """

    def __init__(self, columns: Mapping[str, np.ndarray]):
        self._columns = dict(columns)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def rows(self) -> list[dict[str, Any]]:
        """The rows as dicts."""
        values = zip(*(column.tolist() for column in self._columns.values()), strict=True)
        return [dict(zip(self._columns, row, strict=True)) for row in values]

    def where(self, **equal: Any) -> "Table":
        """The rows whose columns have these values: `curves.where(optimizer="mine", seed=0)`."""
        count = len(next(iter(self._columns.values()), ()))
        kept = np.all([np.ones(count, bool), *(self[name] == value for name, value in equal.items())], axis=0)
        return Table({name: column[kept] for name, column in self._columns.items()})

    def to_pandas(self) -> Any:
        """A pandas DataFrame.

        Raises:
          UserError: pandas is not installed.
        """
        try:
            import pandas  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise UserError(
                "to_pandas: expected the package pandas, got none. Install it, or use the columns, which are arrays."
            ) from None
        return pandas.DataFrame(self._columns)

    def __repr__(self) -> str:
        count = len(next(iter(self._columns.values()), ()))
        return f"Table of {count} rows: {', '.join(self._columns)}"


class Result:
    """A finished run.

    Attributes:
      directory: the run's files: config.py, run.json, report.html and the tables.
      curves: of a benchmark or comparison, a row for each optimizer, seed and round (rounds.csv); of a meta-training,
        one for each logged outer step (metrics.csv).
      table: of a comparison, a row for each method (table.csv); empty for others.
    """

    def __init__(self, directory: Path):
        self.directory = directory

    @cached_property
    def curves(self) -> Table:
        return read_table(self.directory / self._file)

    @cached_property
    def table(self) -> Table:
        return read_table(self.directory / "table.csv")

    _file = "rounds.csv"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.directory)!r})"


class MetaTrained(Result):
    """A finished meta-training.

    Attributes:
      checkpoint: the theta file: the best by the run's validations, else the last.
      optimizer, options: the rule and its options.
    """

    _file = "metrics.csv"

    def __init__(
        self, directory: Path, checkpoints: Path, settings: Mapping[str, Any], options: Mapping[str, Any],
        objects: Mapping[tuple[str, str], Any],
    ):  # fmt: skip
        super().__init__(directory)
        best = checkpoints / "best.safetensors"
        self.checkpoint = best if best.is_file() else resolve_theta_path(checkpoints)
        self.optimizer, self.options = str(settings["optimizer"]), dict(options)
        self._settings, self._objects = dict(settings), dict(objects)

    @property
    def theta(self) -> Theta:
        """The meta-parameters."""
        return load_theta(self.checkpoint)[0]

    def aggregator(self) -> DropIn:
        """Ready for a training loop: see `load_aggregator`."""
        with brought(self._objects):
            return DropIn(self.optimizer, self.theta, options=self.options)

    def method(self) -> dict[str, Any]:
        """The settings by which a benchmark or a comparison tests it."""
        return self._settings | {"test_checkpoint": str(self.checkpoint)}

    @property
    def objects(self) -> dict[tuple[str, str], Any]:
        """What the rule's name stood for in the call."""
        return {key: item for key, item in self._objects.items() if key[0] == "optimizer"}


def read_table(path: Path) -> Table:
    """A CSV file as a Table; empty where there is none."""
    found = read_csv(path)
    return Table({name: _column(name, cells) for name, cells in found.columns.items()} if found else {})


_TEXTS = ("entrant", "optimizer", "task")
"""Columns whose cells may look like numbers and are none."""


def _column(name: str, cells: list[str]) -> np.ndarray:
    if name in _TEXTS:
        return np.array(cells, str)
    try:
        return np.array([float(cell) if cell else np.nan for cell in cells])
    except ValueError:
        return np.array(cells)
