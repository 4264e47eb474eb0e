"""Data sets by name, loaded into host memory; importing this imports no library.

Every data set's file has two functions: `load(name, size, options) -> types.Dataset` and
`describe(name, size, options) -> Description`, which reads nothing. `name` is the whole data set name
(`glyphs62rgb`), `size` the side of the square images in pixels, the tokens of a sequence or the features of a
table, `options` a DataOptions.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from learned_aggregation.errors import UserError
from learned_aggregation.registry import Registry, checked, is_outside, nearest

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
    "fsdd": "fsdd",
    "pytext": "pytext",
    "textfile": "textfile",
    "lm1b": "lm1b",
    "breast": "tables",
    "diabetes": "tables",
    "noisy": "noisy",
    "noisyfew": "noisy",
    "photos": "photos",
    "photoclips": "videos.photoclips",
    "photoclipslit": "videos.photoclips",
}
DATASETS = Registry(
    "data set", {name: f"learned_aggregation.data.{file}:load" for name, file in _FILES.items()}
)
DESCRIPTIONS = Registry(
    "data set", {name: f"learned_aggregation.data.{file}:describe" for name, file in _FILES.items()}
)
TEXT = ("pytext", "textfile", "lm1b")
"""Data sets of tokens."""
TABLES = {"breast": 30, "diabetes": 10, "noisy": 20, "noisyfew": 20}
"""Data sets of rows of numbers -> how many features a row has, the only size that there is. The others are images."""
VIDEOS = ("photoclips", "photoclipslit")
"""Data sets of clips of frames."""
REGRESSIONS = ("diabetes",)
"""The tables with numbers to predict in the place of a class."""
KINDS = {"image": "image", "text": "text", "table": "table", "regression": "table", "video": "video"}
"""Kind of data, which says what an example holds -> what a model reads of it.

| kind | an example |
|---|---|
| image | `image` uint8 [h, w, channels], `label` int32 |
| text | `tokens` unsigned [S + 1] |
| table | `features` float32 [F], `label` int32 |
| regression | `features` float32 [F], `target` float32 [targets] |
| video | `video` uint8 [frames, h, w, channels] |
"""
NEEDS_NO_FILES = ("digits", "glyphs", "photos", "pytext", *TABLES, *VIDEOS)
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
    text_file: what textfile is read from.
    fsdd_file: the .npz that fsdd is read from.
    whole_mb: splits of images on disk with more megabytes than this stay there and are decoded when they are
      used, where the files allow random access; None reads everything into memory.
    datasets: the user's data sets by name, see `data.sources.Entry`.
    """

    seed: int = 0
    tfds_data_dir: str | None = None
    tfds_download: bool = False
    cache_dir: str | None = None
    task: str | None = None
    vocabulary: str | None = None
    text_file: str | None = None
    fsdd_file: str | None = None
    whole_mb: int | None = None
    datasets: Mapping[str, Mapping[str, Any]] = {}


class Description(NamedTuple):
    """What is known of a data set before it is loaded.

    kind: of KINDS.
    shape: of one model input: (side, side, channels), with the frames before it for a video, (sequence length,) or
      (features,).
    num_classes: of the labels; the vocabulary's size for text; 0 for a regression or videos, which have none.
    source: where the data comes from, for people.
    num_targets: the numbers to predict of an example of a regression; 0 for other kinds.
    """

    kind: str
    shape: tuple[int, ...]
    num_classes: int
    source: str
    num_targets: int = 0


def load_dataset(name: str, size: int, options: DataOptions | None = None) -> Dataset:
    """Loads the data set `name` with square images of `size` pixels, sequences of `size` tokens or `size` features.

    Args:
      name: of `options.datasets`, or an entry of DATASETS; `glyphs` may carry a class count and `rgb`: `glyphs62`,
        `glyphs26rgb`.
      size: side of the images in pixels, length of the sequences, or number of features.
      options: see DataOptions.
    Returns:
      A Dataset whose splits (train, inner_valid, outer_valid, test) hold what KINDS says of its kind.
    Raises:
      UserError: an unknown name, a size that there is not, or data that is not there.
    """
    options = options or DataOptions()
    if name in options.datasets:
        from learned_aggregation.data.sources.loading import load_entry

        return load_entry(name, options.datasets[name], size, options)
    load: Any = DATASETS[_check(name, size)]  # a data set that is loaded already stands for itself
    made = load(name, size, options) if callable(load) else load
    return cast("Dataset", checked("data set", name, made, ("name", "splits", "num_classes")))


def describe(name: str, size: int, options: DataOptions | None = None) -> Description:
    """What a model must know of a data set; nothing of it is read, but of one from outside, which is loaded.

    Raises:
      UserError: as `load_dataset`.
    """
    options = options or DataOptions()
    if not is_packaged(name, options.datasets):
        return description_of(load_dataset(name, size, options))
    entry = _check(name, size)
    return DESCRIPTIONS[entry](name, size, options)


def description_of(dataset: Dataset) -> Description:
    """What a data set's train split shows.

    Raises:
      UserError: a split that is missing or of another form, or examples of no kind of KINDS.
    """
    splits = dataset.splits
    if missing := [name for name in ("train", "inner_valid", "outer_valid", "test") if name not in splits]:
        raise UserError(
            f"{dataset.name}: expected the splits train, inner_valid, outer_valid and test, got none of "
            f"{', '.join(missing)}. Add them."
        )
    from learned_aggregation.data.alike import check_alike

    check_alike(dataset.name, splits)
    examples = splits["train"].examples
    if "image" in examples:
        return Description("image", tuple(examples["image"].shape[1:]), dataset.num_classes, "from outside")
    if "video" in examples:
        return Description("video", tuple(examples["video"].shape[1:]), 0, "from outside")
    if "tokens" in examples:
        return Description("text", (examples["tokens"].shape[1] - 1,), dataset.num_classes, "from outside")
    if "features" not in examples:
        raise UserError(
            f"{dataset.name}: expected examples with image, video, tokens or features, got {', '.join(examples)}. "
            "See data.KINDS for what each kind holds."
        )
    if "target" in examples:
        targets = int(examples["target"].shape[1])
        return Description("regression", tuple(examples["features"].shape[1:]), 0, "from outside", targets)
    return Description("table", tuple(examples["features"].shape[1:]), dataset.num_classes, "from outside")


def is_packaged(name: str, datasets: Collection[str] = ()) -> bool:
    """Whether the data set is the package's: its kind and sizes are known before it is loaded."""
    return name not in datasets and (name in _FILES or re.fullmatch(_GLYPHS, name) is not None)


def _check(name: str, size: int) -> str:
    entry = check_dataset_name(name)
    if is_packaged(name) and (not isinstance(size, int) or not has_size(name, size)):
        raise UserError(f"{name}: expected {sizes_of(name)}, got {size!r}.")
    return entry


def kind_of(name: str) -> str:
    """The kind of a data set of the package, of KINDS."""
    if name in TABLES:
        return "regression" if name in REGRESSIONS else "table"
    if name in VIDEOS:
        return "video"
    return "text" if name in TEXT else "image"


def has_size(name: str, size: int) -> bool:
    """Whether a data set comes in this size."""
    if name in TABLES:
        return size == TABLES[name]
    low, high = _SIZES[kind_of(name)]
    return low <= size <= high


def sizes_of(name: str) -> str:
    """The sizes that a data set comes in, for messages."""
    if name in TABLES:
        return f"{TABLES[name]} features"
    what, unit = ("a sequence length", "tokens") if name in TEXT else ("an image size", "pixels")
    low, high = _SIZES[kind_of(name)]
    return f"{what} from {low} to {high} {unit}"


_SIZES = {"image": (4, 1024), "video": (4, 1024), "text": (2, 65535)}


def check_dataset_name(name: str, datasets: Collection[str] = ()) -> str:
    """The registry entry behind a data set name, or a name of `datasets`; a UserError for an unknown one."""
    if name in DATASETS or name in datasets:
        return name
    if is_outside(name):
        return DATASETS.check(name)
    if re.fullmatch(_GLYPHS, name):
        return "glyphs"
    known = list(dict.fromkeys((*datasets, *DATASETS)))
    raise UserError(
        f"data set: expected one of {', '.join(known)} (glyphs takes a class count and rgb: glyphs62rgb), "
        f"got {name!r}.{nearest(name, known)}"
    )


_GLYPHS = r"glyphs\d*(rgb)?"
