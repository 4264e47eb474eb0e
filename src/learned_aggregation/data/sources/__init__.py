"""Data sets of the user's, as the setting `datasets` describes them; no JAX and no library here.

A type's file has `read(where, entry, options) -> Parts`: the columns of each part that the source has, or of the whole.
What they become (leaves, splits, clients) is the same for all types: see `loading`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from learned_aggregation.registry import Registry

_HERE = "learned_aggregation.data.sources"

SOURCES = Registry(
    "type",
    {
        name: f"{_HERE}.{name}:read"
        for name in ("npz", "image_folder", "video_folder", "tfds", "huggingface", "arrays")
    },
)
"""type -> (where, Entry, DataOptions) -> Parts."""

ARRAYS = Registry("arrays", {})
"""Arrays in memory by their fingerprint, which the Python API brings for the time of a call."""

WHOLE = ""
"""The one part of a source that is not divided into splits."""

Parts = Mapping[str, Mapping[str, Any]]
"""Part ("train", "valid", ... or WHOLE) -> column -> an array of N rows, or `stored.Encoded` for images on disk."""


class Entry(NamedTuple):
    """One data set of the setting `datasets`.

    type: of SOURCES, or package.module:attribute.
    path: of a file or folder; for npz also a dict of split -> file; for tfds the folder that prepared sets lie in.
    name: of a TFDS set, with its config: "emnist/balanced".
    columns: leaf (image, video, label, features, target, tokens) -> the column that has it, or a list of columns of
      numbers for features and target; columns called like leaves need no entry.
    clients: the column with each example's client; for image_folder and video_folder
      "folder": the folders above the classes, above the videos.
    fractions: of the train, valid and test parts, where the source does not have them.
    seed: of what is cut.
    num_classes: where the labels do not show it; the vocabulary's size for tokens.
    sha256: of arrays in memory.
    frames: of a clip, of a video_folder; None is 49.
    """

    type: str
    path: Any = None
    name: str | None = None
    columns: Mapping[str, Any] = {}
    clients: str | None = None
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    seed: int = 0
    num_classes: int | None = None
    sha256: str | None = None
    frames: int | None = None
