"""`type="arrays"`: arrays in memory, which the Python API is called with."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from learned_aggregation.data.sources import ARRAYS, WHOLE, Entry, Parts
from learned_aggregation.data.sources.forms import as_column
from learned_aggregation.data.sources.splits import in_parts
from learned_aggregation.errors import UserError


def read(where: str, entry: Entry, options: Any) -> Parts:
    """The arrays that the call was given under this fingerprint."""
    if entry.sha256 is None or entry.sha256 not in ARRAYS:
        raise UserError(
            f"{where}: expected the arrays in memory of a call from Python, got none. "
            "Call learned_aggregation from Python with them, or save them and use type='npz'."
        )
    columns = ARRAYS[entry.sha256]
    nested = all(isinstance(values, Mapping) for values in columns.values())
    if nested:
        return columns
    return in_parts(columns) if columns else {WHOLE: {}}


def fingerprint(columns: Mapping[str, Any]) -> str:
    """sha256 of arrays by name, nested by part or not: equal for equal data."""
    digest = hashlib.sha256()
    for name, values in sorted(columns.items()):
        if isinstance(values, Mapping):
            digest.update(f"{name}/{fingerprint(values)};".encode())
            continue
        array = as_column(values)
        digest.update(f"{name} {array.dtype} {array.shape};".encode())
        digest.update(_content(array))
    return digest.hexdigest()


def _content(array: np.ndarray) -> bytes:
    """Of Python objects their texts; of arrays among them all numbers, where their text would leave some out."""
    if not array.dtype.hasobject:
        return np.ascontiguousarray(array).tobytes()
    rows = array.ravel().tolist()
    return b";".join(
        fingerprint({"": one}).encode() if isinstance(one, (np.ndarray, list, tuple)) else repr(one).encode()
        for one in rows
    )
