"""Arrays kept on disk between runs. A cache that cannot be read or written never stops a run."""

import io
import os
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from learned_aggregation.atomic import replace_file

Arrays = dict[str, np.ndarray]


def cache_dir(chosen: str | None = None) -> Path:
    """The directory for generated data: `chosen`, or our own in the user's cache directory."""
    if chosen:
        return Path(os.path.expanduser(chosen))
    home, base = os.path.expanduser("~"), os.environ.get("XDG_CACHE_HOME")
    if base or home != "~":
        return Path(base or f"{home}/.cache") / "learned-aggregation"
    # A user without a home, as in a container: a directory of that user's alone.
    name = f"learned-aggregation-{os.getuid() if hasattr(os, 'getuid') else 'cache'}"
    return Path(tempfile.gettempdir()) / name


def cached_arrays(path: Path, build: Callable[[], Arrays]) -> Arrays:
    """The arrays stored at `path`; built, and stored for the next time, where they are missing or damaged.

    Args:
      path: an .npz file whose name carries everything the arrays depend on.
      build: makes the arrays; called only if the file is of no use.
    """
    stored = _read(path)
    if stored is not None:
        return stored
    arrays = build()
    try:
        _write(path, arrays)
    except OSError as error:
        warnings.warn(f"{path}: cannot keep the generated data ({error}); going on without.", stacklevel=2)
    return arrays


def _read(path: Path) -> Arrays | None:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, EOFError, ValueError, KeyError, AttributeError, zipfile.BadZipFile, zlib.error):
        return None


def _write(path: Path, arrays: Arrays) -> None:
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    replace_file(path, content.getvalue())
