"""The 1,797 handwritten digits that come inside scikit-learn: a real data set with nothing to download."""

import numpy as np

from learned_aggregation.data import DataOptions, Description
from learned_aggregation.data.images import resize
from learned_aggregation.data.stratified import stratified_order
from learned_aggregation.types import SPLITS, Dataset, Split

SIZES = dict(zip(SPLITS, (1000, 250, 250, 297), strict=True))
NUM_CLASSES = 10
SCALE = 1 / 16  # the images hold ink counts 0..16


def load(name: str, size: int, options: DataOptions) -> Dataset:
    """Handwritten digits, 8x8 pixels in 0..16, in one fixed class-stratified split 1000/250/250/297.

    Args:
      name: `digits`.
      size: side of the images; other than 8 they are resized, on the same 0..16 scale.
      options: not used: the split is the same in every run.
    Returns:
      A Dataset with images uint8 [N, size, size, 1].
    References:
      Alpaydin & Kaynak, "Optical Recognition of Handwritten Digits", UCI repository, 1998 (the test part).
    """
    from sklearn.datasets import load_digits

    pixels, target = load_digits(return_X_y=True)
    images = resize(np.asarray(pixels, np.uint8).reshape(-1, 8, 8, 1), size)
    labels = np.asarray(target, np.int32)
    parts = np.split(stratified_order(labels), np.cumsum(list(SIZES.values()))[:-1])
    splits = {
        split: Split({"image": images[rows], "label": labels[rows]})
        for split, rows in zip(SPLITS, parts, strict=True)
    }
    return Dataset(name, splits, NUM_CLASSES, SCALE)


def describe(name: str, size: int, options: DataOptions) -> Description:
    return Description("image", (size, size, 1), NUM_CLASSES, "embedded: scikit-learn's digits")
