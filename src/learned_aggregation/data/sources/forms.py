"""A column of a source in the form that its leaf needs, or one line that says what is wrong with it."""

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from learned_aggregation.data.sources.stored import Encoded, StoredClips
from learned_aggregation.errors import UserError

LARGEST = np.iinfo(np.int32).max
"""Of whole numbers on a device."""


def formed(where: str, leaf: str, values: Any) -> Any:
    """The column as an array whose first axis is that of the examples.

    Labels and clients become [N]: whole numbers, or names. Features and targets become float32 [N, F]. Images on disk
    stay there.

    Raises:
      UserError: no array, rows of unlike shapes, a missing value, or values that the leaf cannot have.
    """
    if isinstance(values, Encoded | StoredClips):
        return values
    column = as_column(values)
    if column.ndim == 0:
        _refuse(
            where, leaf, "an array with a row for each example", f"{column.tolist()!r:.60}", "Give [N, ...]."
        )
    return _FORMS.get(leaf, _further)(where, leaf, column)


def as_column(values: Any) -> np.ndarray:
    """The values as an array; rows of unlike lengths as one of Python objects.

    Example:
      >>> as_column([[1, 2], [3]]).shape
      (2,)
    """
    try:
        return np.asarray(values)
    except ValueError:
        rows = list(values)
        column = np.empty(len(rows), object)
        column[:] = rows
        return column


def _identities(where: str, leaf: str, column: np.ndarray) -> np.ndarray:
    """[N] of whole numbers or of names."""
    if column.ndim == 2 and column.shape[1] == 1:
        column = column[:, 0]
    if column.ndim != 1:
        columns = "Of one column for each class, give column.argmax(axis=1)."
        remedy = columns if leaf == "label" else "Give one number or name."
        _refuse(where, leaf, f"one {leaf} for each example, [N]", f"{list(column.shape)}", remedy)
    if column.dtype.kind == "O":
        column = _of_objects(where, leaf, column)
    if column.dtype.kind == "S":
        return np.array([name.decode(errors="backslashreplace") for name in column.tolist()])
    if column.dtype.kind == "f":
        strange = np.flatnonzero(
            ~(np.isfinite(column) & (column == np.round(column)) & (np.abs(column) < 2**53))
        )
        if len(strange):
            got = f"{float(column[strange[0]])!r} in row {strange[0]}"
            predicted = "; numbers to be predicted go into a column target" if leaf == "label" else ""
            remedy = f"Fill or remove such rows{predicted}."
            _refuse(where, leaf, f"whole numbers or names as {leaf}s", got, remedy)
        return column.astype(np.int64)
    if column.dtype.kind not in "biuUM":
        _refuse(where, leaf, f"whole numbers or names as {leaf}s", column.dtype, "Convert them.")
    return column.astype({"b": np.int64, "M": str}.get(column.dtype.kind, column.dtype), copy=False)


def _of_objects(where: str, leaf: str, column: np.ndarray) -> np.ndarray:
    """Python objects of one kind, numbers or texts, as an array of it."""
    found = column.tolist()
    for kinds in ((bool, np.bool_), (int, np.integer), (int, float, np.number), (str,), (bytes,)):
        if all(isinstance(one, kinds) for one in found):
            return np.array(found)
    row = next((i for i, one in enumerate(found) if one is None or type(one) is not type(found[0])), 0)
    got = f"{found[row]!r:.40} in row {row}"
    _refuse(where, leaf, f"whole numbers or names as {leaf}s, of one kind", got, "Fill or remove such rows.")


def _numbers(where: str, leaf: str, column: np.ndarray) -> np.ndarray:
    """float32 [N, F], finite."""
    if column.dtype.kind == "O":
        try:
            column = np.array(column.tolist(), np.float64)
        except (ValueError, TypeError, OverflowError):
            _refuse(
                where, leaf, f"numbers as {leaf}", "other objects, or rows of unlike lengths", "Convert them."
            )
    if column.dtype.kind not in "biuf":
        _refuse(where, leaf, f"numbers as {leaf}", column.dtype, "Convert them.")
    with np.errstate(over="ignore"):
        flat = column.reshape(len(column), int(np.prod(column.shape[1:]))).astype(np.float32)
    if not np.isfinite(flat).all():
        row = int(np.flatnonzero(~np.isfinite(flat).all(axis=1))[0])
        got = f"NaN, infinity or more than float32 holds in row {row}"
        _refuse(where, leaf, f"finite {leaf}", got, "Fill or remove these rows.")
    return flat


def _images(where: str, leaf: str, column: np.ndarray) -> np.ndarray:
    is_float = column.dtype.kind == "f"
    if column.ndim not in (3, 4) or not (is_float or column.dtype == np.uint8):
        raise UserError(
            f"{where}: expected images as uint8 [N, h, w] or [N, h, w, channels], or as floats, got {column.dtype} "
            f"{list(column.shape)}. Convert them, or name the column in columns=dict(image=...)."
        )
    if not is_float:
        return column
    with np.errstate(over="ignore"):
        column = column.astype(np.float32, copy=False)
    if not np.isfinite(column).all():
        row = int(np.flatnonzero(~np.isfinite(column).reshape(len(column), -1).all(axis=1))[0])
        got = f"NaN, infinity or more than float32 holds in image {row}"
        _refuse(where, leaf, "finite images", got, "Fill or remove these images.")
    return column


def _tokens(where: str, leaf: str, column: np.ndarray) -> np.ndarray:
    """Whole numbers [N, S + 1] or [n], or [N] of texts or lists; the rows of those are looked at as they are read."""
    numbers = column.dtype.kind in "iu" and column.ndim in (1, 2)
    if not numbers and not (column.dtype.kind in "USO" and column.ndim == 1):
        expected = "whole numbers [N, S + 1], one long sequence of them [n], or texts [N] as tokens"
        _refuse(where, leaf, expected, f"{column.dtype} {list(column.shape)}", "Convert them.")
    return column


def _further(where: str, leaf: str, column: np.ndarray) -> np.ndarray:
    """A column that a loss of the user's reads: whatever numbers a device takes."""
    if column.dtype.kind not in "biuf":
        _refuse(where, leaf, "numbers", column.dtype, f"Convert {leaf}, or leave it out of columns.")
    if column.dtype.kind in "iu" and column.size and not -LARGEST <= column.min() <= column.max() <= LARGEST:
        got = f"{column.min()} to {column.max()}"
        _refuse(where, leaf, f"whole numbers of at most {LARGEST}", got, "Number them anew, or give floats.")
    return column


_FORMS: dict[str, Callable[[str, str, np.ndarray], np.ndarray]] = {
    "label": _identities,
    "client": _identities,
    "features": _numbers,
    "target": _numbers,
    "image": _images,
    "tokens": _tokens,
    "video": lambda where, leaf, column: column,  # `fitted_clips` looks at it
}


def _refuse(where: str, leaf: str, expected: str, got: Any, remedy: str) -> NoReturn:
    expected = expected if leaf in expected else f"{expected} as {leaf}"
    raise UserError(f"{where}: expected {expected}, got {got}. {remedy}")
