"""`type="huggingface"`: a data set of the package `datasets`, as its `save_to_disk` left it. Nothing is downloaded."""

import importlib.util
from typing import Any

import numpy as np

from learned_aggregation.atomic import from_home
from learned_aggregation.data.sources import WHOLE, Entry, Parts
from learned_aggregation.data.sources.splits import NAMES
from learned_aggregation.data.sources.stored import Encoded
from learned_aggregation.errors import UserError


def read(where: str, entry: Entry, options: Any) -> Parts:
    """The columns of a Dataset, or of the train, validation and test parts of a DatasetDict.

    Images are decoded when they are taken, in the mode of the first one.

    Raises:
      UserError: no package `datasets`, or nothing at `path` that it can load.
    """
    if importlib.util.find_spec("datasets") is None:
        raise UserError(
            f"{where}: expected the package datasets for type='huggingface', got none. "
            "Install it with `pip install 'learned-aggregation[huggingface]'`."
        )
    path = from_home(entry.path)
    if not path.is_dir():
        raise UserError(
            f"{where}: expected a folder that save_to_disk wrote, got {entry.path!r}, which is none. Check the path."
        )
    import datasets  # pyright: ignore[reportMissingImports]

    try:
        loaded: Any = datasets.load_from_disk(str(path))
    except Exception as error:  # the package raises errors of Arrow, of JSON and its own
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{where}: expected a folder that save_to_disk wrote, got {entry.path!r} with {reason}. Save it again."
        ) from error
    if isinstance(loaded, datasets.DatasetDict):
        return {part: _columns(of) for part, of in loaded.items() if part.lower() in NAMES}
    return {WHOLE: _columns(loaded)}


def _columns(data: Any) -> dict[str, Any]:
    columns = {}
    for name, feature in data.features.items():
        if type(feature).__name__ == "Image":
            columns[name] = _images(data.select_columns([name]), name)
        else:
            columns[name] = _array(data.with_format("numpy").select_columns([name])[:][name])
    return columns


def _array(values: Any) -> np.ndarray:
    if isinstance(values, np.ndarray):
        return values
    ragged = np.empty(len(values), object)  # lists of different lengths
    ragged[:] = list(values)
    return ragged


def _images(data: Any, name: str) -> Encoded:
    mode = "L" if data[0][name].mode in ("L", "1", "I", "I;16", "LA") else "RGB"
    return Encoded(len(data), lambda number: np.asarray(data[number][name].convert(mode)))
