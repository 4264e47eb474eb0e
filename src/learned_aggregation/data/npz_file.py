"""NumPy's archives, read without pickles; whatever is wrong with one is one kind of error."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from learned_aggregation.atomic import from_home


class Unreadable(ValueError):
    """A file that is no whole .npz of plain arrays."""


def read_npz(path: str | Path, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an archive by their names; `~` in the path is the home folder.

    Args:
      names: the arrays that must be there; None: whatever is. Others are read too.
    Raises:
      Unreadable: no such file, a damaged one, a single array, an array of Python objects, one that is missing.
    """
    try:
        stored = np.load(from_home(path), allow_pickle=False)
        if isinstance(stored, np.ndarray):
            raise Unreadable("a single array, not an archive")
        with stored:
            arrays = {name: stored[name] for name in stored.files}
    except Unreadable:
        raise
    except Exception as error:  # zipfile, zlib and the parser of headers raise a dozen types
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        if "allow_pickle" in reason:
            reason = "an array of Python objects, which only a pickle can hold"
        raise Unreadable(" ".join(reason.split())[:200]) from None
    missing = [name for name in names or () if name not in arrays]
    if missing:
        raise Unreadable(f"no array {', '.join(missing)}, only {', '.join(arrays) or 'nothing'}")
    return arrays
