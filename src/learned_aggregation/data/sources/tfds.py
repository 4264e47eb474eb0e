"""`type="tfds"`: any set that TensorFlow Datasets has prepared, by its name."""

from pathlib import Path
from typing import Any

import numpy as np

from learned_aggregation.data.sources import Entry, Parts
from learned_aggregation.data.sources.leaves import CALLED
from learned_aggregation.data.sources.splits import NAMES
from learned_aggregation.data.sources.stored import Encoded
from learned_aggregation.data.tfds_files import (
    Source,
    by_number,
    line,
    open_folder,
    part_names,
    read_part,
    unusable,
)


def read(where: str, entry: Entry, options: Any) -> Parts:
    """The set's train, validation and test parts; other parts are left out.

    `path` is the folder that prepared sets lie in; without it `tfds_data_dir` is. Images in array_record files are
    decoded when they are taken; from TFRecord everything is read.

    Raises:
      UserError: the set is missing or cannot be read; the message says how to get it.
    """
    asked = str(entry.name)
    source = Source(where, asked, "glyphs")
    options = options if entry.path is None else options._replace(tfds_data_dir=entry.path)
    folder = open_folder(source, options)
    try:
        parts = [part for part in part_names(folder) if part.lower() in NAMES]
        return {part: _columns(folder, part, entry) for part in parts}
    except Exception as error:  # whatever TFDS and its record readers raise on damaged files
        raise unusable(source, options, f"{line(error)} in {folder}") from error


def _columns(folder: Path, part: str, entry: Entry) -> dict[str, Any]:
    image = entry.columns.get("image")
    records = by_number(folder, part)
    if records is None or not len(records):
        rows = list(read_part(folder, part).examples)
        image, others = None, rows
    else:
        image = image or next((name for name in CALLED["image"] if name in records[0]), None)
        others = list(by_number(folder, part, skip=image) or ()) if image else list(records)
    names = [name for name in others[0] if name != image]
    columns: dict[str, Any] = {name: _stacked([row[name] for row in others]) for name in names}
    if image is not None and records is not None:
        columns[image] = Encoded(len(records), lambda number: records[number][image])
    return {name: values for name, values in columns.items() if values is not None}


def _stacked(values: list[Any]) -> Any:
    """One array; texts as text; images of several sizes as such a column; None for what is nested."""
    if isinstance(values[0], (bytes, str)):
        return np.array([v.decode(errors="replace") if isinstance(v, bytes) else v for v in values])
    if isinstance(values[0], dict):
        return None
    arrays = [np.asarray(value) for value in values]
    if len({array.shape for array in arrays}) == 1:
        return np.stack(arrays)
    if arrays[0].ndim == 3:
        return Encoded(len(arrays), arrays.__getitem__)
    ragged = np.empty(len(arrays), object)
    ragged[:] = arrays
    return ragged
