"""Data sets by name, loaded into host memory; importing this imports no library.

Every loader has one signature, `load(name, size, options) -> types.Dataset`: `name` is the whole data set
name (`glyphs62rgb`), `size` the side of the square images in pixels, `options` a DataOptions.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from learned_aggregation.errors import UserError
from learned_aggregation.registry import Registry, nearest

if TYPE_CHECKING:
    from learned_aggregation.types import Dataset

DATASETS = Registry(
    "data set",
    {
        "digits": "learned_aggregation.data.digits:load",
        "glyphs": "learned_aggregation.data.glyphs:load",
        "mnist": "learned_aggregation.data.tfds_images:load",
        "fmnist": "learned_aggregation.data.tfds_images:load",
        "c10": "learned_aggregation.data.tfds_images:load",
        "c100": "learned_aggregation.data.tfds_images:load",
    },
)
NEEDS_NO_FILES = ("digits", "glyphs")
"""Data sets that load at once on any machine."""


class DataOptions(NamedTuple):
    """What a loader may need besides a name and a size.

    seed: of a generated data set; the images are part of the task, so leave it alone between runs.
    tfds_data_dir: where TFDS data lies; None is TFDS's own default, ~/tensorflow_datasets.
    tfds_download: let TFDS fetch and prepare what is missing. Nothing is downloaded otherwise.
    cache_dir: where generated data is kept; None is $XDG_CACHE_HOME/learned-aggregation, or
      ~/.cache/learned-aggregation.
    task: the task name the user gave, for error messages only.
    """

    seed: int = 0
    tfds_data_dir: str | None = None
    tfds_download: bool = False
    cache_dir: str | None = None
    task: str | None = None


def load_dataset(name: str, size: int, options: DataOptions | None = None) -> Dataset:
    """Loads the data set `name` with square images of `size` pixels.

    Args:
      name: an entry of DATASETS; `glyphs` may carry a class count and `rgb`: `glyphs62`, `glyphs26rgb`.
      size: side of the images in pixels.
      options: see DataOptions.
    Returns:
      A Dataset whose splits (train, inner_valid, outer_valid, test) hold `image`, uint8
      [N, size, size, channels], and `label`, int32 [N].
    Raises:
      UserError: an unknown name, a size below 4, or data that is not there.
    """
    if not isinstance(size, int) or size < 4:
        raise UserError(f"{name}: expected an image size of at least 4 pixels, got {size!r}.")
    return DATASETS[check_dataset_name(name)](name, size, options or DataOptions())


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
