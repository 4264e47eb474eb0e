"""Image sets prepared by TensorFlow Datasets, in memory or, where they are too large, on disk."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from learned_aggregation.data import DataOptions, Description
from learned_aggregation.data.images import crop_square, resize
from learned_aggregation.data.tfds_files import Source, by_number, line, open_folder, read_part, unusable
from learned_aggregation.errors import UserError
from learned_aggregation.types import SPLITS, Dataset, Split


class _Images(NamedTuple):
    """tfds_name: TFDS's name of the set. embedded: the most similar set that needs no files. test: its split."""

    tfds_name: str
    num_classes: int
    channels: int
    embedded: str
    test: str = "test"


SETS = {
    "mnist": _Images("mnist", 10, 1, "glyphs"),
    "fmnist": _Images("fashion_mnist", 10, 1, "glyphs"),
    "c10": _Images("cifar10", 10, 3, "glyphsrgb"),
    "c100": _Images("cifar100", 100, 3, "glyphs62rgb"),
    "imagenet": _Images("imagenet2012", 1000, 3, "glyphs62rgb", "validation"),
    "food101": _Images("food101", 101, 3, "glyphs62rgb", "validation"),
}
IMAGENET_RESIZED = (8, 16, 32, 64)
"""Sides at which TFDS has ImageNet downsampled (Chrabaszcz et al., 2017, arXiv:1707.08819)."""


def load(name: str, size: int, options: DataOptions) -> Dataset:
    """MNIST, Fashion-MNIST, CIFAR-10, CIFAR-100, ImageNet or Food-101.

    The splits are train[:80%], train[80%:90%] (inner_valid), train[90%:] (outer_valid) and test (for ImageNet
    and Food-101, validation), in the order in which TFDS stores the examples.

    Args:
      name: an entry of SETS. `imagenet` is imagenet_resized at the first of its sides that is not below
        `size`, and imagenet2012 above 64 pixels.
      size: side of the images; others are cropped to their middle square and resized.
      options: tfds_data_dir, tfds_download, whole_mb and task are used.
    Returns:
      A Dataset with images uint8 [N, size, size, 1 or 3]; those of a split above whole_mb are StoredImages.
    Raises:
      UserError: the data is missing or cannot be read; it says where it was looked for, how to get it and
        what to run without it.
    """
    source = _source(name, size)
    folder = open_folder(source, options)
    parts = ("train[:80%]", "train[80%:90%]", "train[90%:]", SETS[name].test)
    try:
        stored = functools.partial(_stored, folder, name, size, options)
        splits = [stored(part) or _read(folder, part, size) for part in parts]
    except Exception as error:  # whatever TFDS and its record readers raise on damaged files
        raise unusable(source, options, f"{line(error)} in {folder}") from error
    return Dataset(name, dict(zip(SPLITS, splits, strict=True)), SETS[name].num_classes, *_scaling(name))


def _scaling(name: str) -> tuple[float | tuple[float, ...], float | tuple[float, ...]]:
    """(scale, shift) of model inputs: ImageNet's have mean 0 and deviation 1 per channel, the others' lie in [0, 1].

    As in the published experiments, whose readers follow google/learned_optimization, tasks/datasets.
    """
    if name != "imagenet":
        return 1 / 255, 0.0
    mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return tuple(1 / (255 * d) for d in deviation), tuple(m / d for m, d in zip(mean, deviation, strict=True))


def describe(name: str, size: int, options: DataOptions) -> Description:
    shape = (size, size, SETS[name].channels)
    return Description("image", shape, SETS[name].num_classes, f"TFDS {_source(name, size).tfds_name}")


class StoredImages:
    """Images of a part, left on disk: uint8 [N, size, size, channels], read and decoded when they are taken.

    Args:
      records: the examples by number.
      fail: the message for records that cannot be read.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self, records: Sequence[Any], size: int, channels: int, fail: Callable[[Exception], UserError]
    ):
        self.shape = (len(records), size, size, channels)
        self._records, self._fail = records, fail

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        """The images of an array of numbers, or of a slice; a UserError where one cannot be read."""
        numbers = np.arange(len(self))[rows]
        images = np.empty((len(numbers), *self.shape[1:]), np.uint8)
        try:
            for image, number in zip(images, numbers, strict=True):
                image[...] = _fitted(self._records[number], self.shape[1])
        except Exception as error:  # whatever TFDS and its record readers raise on damaged files
            raise self._fail(error) from error
        return images

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)


def _stored(folder: Path, name: str, size: int, options: DataOptions, part: str) -> Split | None:
    """A part whose images stay on disk, its labels read; None where it is small, or stored as TFRecord."""
    if options.whole_mb is None:
        return None
    records = by_number(folder, part)
    labelled = by_number(folder, part, skip="image")
    channels = SETS[name].channels
    if records is None or labelled is None or len(records) * size**2 * channels <= options.whole_mb * 2**20:
        return None
    source = _source(name, size)
    images = StoredImages(
        records, size, channels, lambda error: unusable(source, options, f"{line(error)} in {folder}")
    )
    labels = np.fromiter((example["label"] for example in labelled), np.int32, len(labelled))
    return Split({"image": images, "label": labels})  # pyright: ignore[reportArgumentType]


def _source(name: str, size: int) -> Source:
    tfds_name = SETS[name].tfds_name
    if name == "imagenet" and size <= IMAGENET_RESIZED[-1]:
        side = next(side for side in IMAGENET_RESIZED if side >= size)
        tfds_name = f"imagenet_resized/{side}x{side}"
    return Source(name, tfds_name, SETS[name].embedded)


def _read(folder: Path, part: str, size: int) -> Split:
    """All examples of a part: image uint8 [N, size, size, channels], label int32 [N]."""
    count, examples = read_part(folder, part)
    images, labels = None, np.empty(count, np.int32)
    for row, example in enumerate(examples):
        image = _fitted(example, size)
        if images is None:
            images = np.empty((count, *image.shape), np.uint8)
        images[row], labels[row] = image, example["label"]
    if images is None:
        raise ValueError(f"no examples in {part}")
    return Split({"image": images, "label": labels})


def _fitted(example: dict[str, Any], size: int) -> np.ndarray:
    """The example's image, cropped to its middle square and resized."""
    return resize(crop_square(example["image"])[None], size)[0]
