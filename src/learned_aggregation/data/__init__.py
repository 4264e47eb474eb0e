"""Data sets by name, loaded into host memory; importing this imports no library.

Every data set's file has two functions: `load(name, size, options) -> types.Dataset` and
`describe(name, size, options) -> Description`, which reads nothing. `name` is the whole data set name
(`glyphs62rgb`), `size` the side of the square images in pixels or the tokens of a sequence, `options` a
DataOptions.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from learned_aggregation.errors import UserError
from learned_aggregation.registry import Registry, nearest

if TYPE_CHECKING:
    from learned_aggregation.types import Dataset

_FILES = {
    "digits": "digits",
    "glyphs": "glyphs",
    "mnist": "tfds_images",
    "fmnist": "tfds_images",
    "c10": "tfds_images",
    "c100": "tfds_images",
    "imagenet": "tfds_images",
    "food101": "tfds_images",
    "pytext": "pytext",
    "lm1b": "lm1b",
}
DATASETS = Registry(
    "data set", {name: f"learned_aggregation.data.{file}:load" for name, file in _FILES.items()}
)
DESCRIPTIONS = Registry(
    "data set", {name: f"learned_aggregation.data.{file}:describe" for name, file in _FILES.items()}
)
TEXT = ("pytext", "lm1b")
"""Data sets of tokens; the others are images."""
NEEDS_NO_FILES = ("digits", "glyphs", "pytext")
"""Data sets that load at once on any machine."""


class DataOptions(NamedTuple):
    """What a loader may need besides a name and a size.

    seed: of a generated data set; the images are part of the task, so leave it alone between runs.
    tfds_data_dir: where TFDS data lies; None is TFDS's own default, ~/tensorflow_datasets.
    tfds_download: let TFDS fetch and prepare what is missing. Nothing is downloaded otherwise.
    cache_dir: where generated data is kept; None is $XDG_CACHE_HOME/learned-aggregation, or
      ~/.cache/learned-aggregation.
    task: the task name the user gave, for error messages only.
    vocabulary: the SentencePiece model that lm1b is read with; None is bytes.
    whole_mb: splits of images on disk with more megabytes than this stay there and are decoded when they are
      used, where the files allow random access; None reads everything into memory.
    """

    seed: int = 0
    tfds_data_dir: str | None = None
    tfds_download: bool = False
    cache_dir: str | None = None
    task: str | None = None
    vocabulary: str | None = None
    whole_mb: int | None = None


class Description(NamedTuple):
    """What is known of a data set before it is loaded.

    kind: "image" or "text".
    shape: of one model input: (side, side, channels), or (sequence length,).
    num_classes: of images; the vocabulary's size for text.
    source: where the data comes from, for people.
    """

    kind: str
    shape: tuple[int, ...]
    num_classes: int
    source: str


def load_dataset(name: str, size: int, options: DataOptions | None = None) -> Dataset:
    """Loads the data set `name` with square images of `size` pixels, or sequences of `size` tokens.

    Args:
      name: an entry of DATASETS; `glyphs` may carry a class count and `rgb`: `glyphs62`, `glyphs26rgb`.
      size: side of the images in pixels, or length of the sequences.
      options: see DataOptions.
    Returns:
      A Dataset whose splits (train, inner_valid, outer_valid, test) hold `image`, uint8
      [N, size, size, channels], and `label`, int32 [N]; or `tokens`, unsigned [N, size + 1].
    Raises:
      UserError: an unknown name, a size that is too small, or data that is not there.
    """
    entry = _check(name, size)
    return DATASETS[entry](name, size, options or DataOptions())


def describe(name: str, size: int, options: DataOptions | None = None) -> Description:
    """What a model must know of a data set; nothing of it is read. Raises UserErrors as `load_dataset`."""
    entry = _check(name, size)
    return DESCRIPTIONS[entry](name, size, options or DataOptions())


def _check(name: str, size: int) -> str:
    entry, least = check_dataset_name(name), smallest_size(name)
    if not isinstance(size, int) or size < least:
        what = "a sequence of at least 2 tokens" if entry in TEXT else "an image size of at least 4 pixels"
        raise UserError(f"{name}: expected {what}, got {size!r}.")
    return entry


def kind_of(name: str) -> str:
    """ "text" or "image"."""
    return "text" if name in TEXT else "image"


def smallest_size(name: str) -> int:
    return 2 if name in TEXT else 4


def check_dataset_name(name: str) -> str:
    """The registry entry behind a data set name; a UserError for an unknown one."""
    if name in tuple(DATASETS):
        return name
    if re.fullmatch(r"glyphs\d*(rgb)?", name):
        return "glyphs"
    raise UserError(
        f"data set: expected one of {', '.join(DATASETS)} (glyphs takes a class count and rgb: glyphs62rgb), "
        f"got {name!r}.{nearest(name, DATASETS)}"
    )
