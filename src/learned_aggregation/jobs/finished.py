"""How a job ended."""

from pathlib import Path
from typing import NamedTuple


class Finished(NamedTuple):
    """status: 0, or 128 + the number of the signal that stopped it. path: the run's directory, None if it has none."""

    status: int
    path: Path | None
