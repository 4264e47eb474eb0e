"""Arrays kept on disk between runs. A cache that cannot be read or written never stops a run."""

import hashlib
import io
import math
import os
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from learned_aggregation.atomic import replace_file

Arrays = dict[str, np.ndarray]

_CHECKSUM = "sha256"
"""The name of an array beside the others: of their names, kinds, shapes and bytes."""


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
    """The arrays in the file; None for any other file than `_write` writes.

    It is read member by member: a damaged header may claim any size, and NumPy makes room for it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > path.stat().st_size:
                return None
            arrays = {m.filename.removesuffix(".npy"): _array(archive.read(m)) for m in members}
    except Exception:  # zipfile, zlib and NumPy raise many types for what is damaged
        return None
    found = arrays.pop(_CHECKSUM, None)
    return arrays if found is not None and found.tobytes() == _checksum(arrays) else None


def _array(content: bytes) -> np.ndarray:
    file = io.BytesIO(content)
    header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, fortran, dtype = header[np.lib.format.read_magic(file)](file)
    data = content[file.tell() :]
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError("other data than its header says")
    return np.frombuffer(bytearray(data), dtype).reshape(shape, order="F" if fortran else "C")


def _checksum(arrays: Arrays) -> bytes:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.digest()


def _write(path: Path, arrays: Arrays) -> None:
    content = io.BytesIO()
    checksum = {_CHECKSUM: np.frombuffer(_checksum(arrays), np.uint8)}
    np.savez(content, allow_pickle=False, **arrays, **checksum)
    replace_file(path, content.getvalue())
