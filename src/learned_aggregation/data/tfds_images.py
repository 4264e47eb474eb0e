"""Image sets prepared by TensorFlow Datasets, in memory."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from learned_aggregation.data import DataOptions, Description
from learned_aggregation.data.images import crop_square, resize
from learned_aggregation.data.tfds_files import Source, line, open_folder, read_part, unusable
from learned_aggregation.types import Dataset, Split


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
    """MNIST, Fashion-MNIST, CIFAR-10, CIFAR-100, ImageNet or Food-101 in memory.

    The splits are train[:80%], train[80%:90%] (inner_valid), train[90%:] (outer_valid) and test (for ImageNet
    and Food-101, validation), in the order in which TFDS stores the examples.

    Args:
      name: an entry of SETS. `imagenet` is imagenet_resized at the first of its sides that is not below
        `size`, and imagenet2012 above 64 pixels.
      size: side of the images; others are cropped to their middle square and resized.
      options: tfds_data_dir, tfds_download and task are used.
    Returns:
      A Dataset with images uint8 [N, size, size, 1 or 3].
    Raises:
      UserError: the data is missing or cannot be read; it says where it was looked for, how to get it and
        what to run without it.
    """
    source = _source(name, size)
    folder = open_folder(source, options)
    parts = ("train[:80%]", "train[80%:90%]", "train[90%:]", SETS[name].test)
    try:
        train, inner_valid, outer_valid, test = (_read(folder, part, size) for part in parts)
    except Exception as error:  # whatever TFDS and its record readers raise on damaged files
        raise unusable(source, options, f"{line(error)} in {folder}") from error
    splits = {"train": train, "inner_valid": inner_valid, "outer_valid": outer_valid, "test": test}
    return Dataset(name, splits, SETS[name].num_classes, 1 / 255)


def describe(name: str, size: int, options: DataOptions) -> Description:
    shape = (size, size, SETS[name].channels)
    return Description("image", shape, SETS[name].num_classes, f"TFDS {_source(name, size).tfds_name}")


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
        image = resize(crop_square(example["image"])[None], size)
        if images is None:
            images = np.empty((count, *image.shape[1:]), np.uint8)
        images[row], labels[row] = image[0], example["label"]
    if images is None:
        raise ValueError(f"no examples in {part}")
    return Split({"image": images, "label": labels})
