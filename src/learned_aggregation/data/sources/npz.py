"""`type="npz"`: NumPy's archives, read without pickles."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from learned_aggregation.data.npz_file import Unreadable, read_npz
from learned_aggregation.data.sources import Entry, Parts
from learned_aggregation.data.sources.splits import in_parts
from learned_aggregation.errors import UserError


def read(where: str, entry: Entry, options: Any) -> Parts:
    """The arrays of one archive, or of one for each part (`path` a dict).

    Arrays of one archive that are called train_image, test_image, ... are columns of these parts.

    Raises:
      UserError: no such file, a damaged one, an array of Python objects.
    """
    if isinstance(entry.path, Mapping):
        return {part: _arrays(where, path) for part, path in entry.path.items()}
    return in_parts(_arrays(where, entry.path))


def _arrays(where: str, path: str) -> dict[str, np.ndarray]:
    try:
        return read_npz(path)
    except Unreadable as error:
        raise UserError(
            f"{where}: expected an .npz of plain arrays at {str(path)!r}, got {error}. "
            "Save it with np.savez(path, image=..., label=..., client=...), or check the path."
        ) from None
