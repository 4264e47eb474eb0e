"""Crops of scikit-learn's two photographs: natural images in colour with nothing to download."""

import numpy as np

from learned_aggregation.data import DataOptions, Description
from learned_aggregation.data.images import check_fits, resize
from learned_aggregation.data.videos.textures import COLUMNS, photographs
from learned_aggregation.types import SPLITS, Dataset, Split

SIZES: dict[str, int] = dict(zip(SPLITS, (8_000, 1_000, 1_000, 1_000), strict=True))
SIDES = 24, 64
"""Pixels along the side of a crop, of the halved photographs of 320 x 213."""
BANDS = 4
"""Of each photograph, from its top: a client has the crops whose middle lies in one."""
NUM_CLASSES = 2


def load(name: str, size: int, options: DataOptions) -> Dataset:
    """Square crops at random places, of random sizes, half of them mirrored; the label is the photograph.

    The splits' crops come from columns of the photographs that do not overlap, but for the two validation splits,
    which share theirs. `Split.clients` is the photograph and the band of its height, 8 in all.

    Args:
      name: `photos`.
      size: side of the images in pixels.
      options: seed is used.
    Returns:
      A Dataset of 11,000 images (8,000/1,000/1,000/1,000), uint8 [N, size, size, 3], the same for the same seed.
    Raises:
      UserError: images that do not fit into memory.
    """
    check_fits(name, size, sum(SIZES.values()), 3)
    streams = np.random.SeedSequence(options.seed).spawn(len(SIZES))
    splits = {
        split: _crops(split, count, size, np.random.default_rng(stream))
        for (split, count), stream in zip(SIZES.items(), streams, strict=True)
    }
    return Dataset(name, splits, NUM_CLASSES, 1 / 255)


def describe(name: str, size: int, options: DataOptions) -> Description:
    return Description("image", (size, size, 3), NUM_CLASSES, "embedded: crops of scikit-learn's photographs")


def _crops(split: str, count: int, size: int, rng: np.random.Generator) -> Split:
    pixels = [(255 * photograph).round().astype(np.uint8) for photograph in photographs()]
    labels = rng.permutation(np.arange(count, dtype=np.int32) % NUM_CLASSES)
    images, clients = np.empty((count, size, size, 3), np.uint8), np.empty(count, np.int32)
    for i, label in enumerate(labels):
        height, width = pixels[label].shape[:2]
        left, right = (round(part * width) for part in COLUMNS[split])
        side = int(rng.integers(SIDES[0], min(SIDES[1], right - left) + 1))
        x, y = rng.integers(left, right - side + 1), rng.integers(0, height - side + 1)
        crop = pixels[label][y : y + side, x : x + side]
        images[i] = resize((crop[:, ::-1] if rng.random() < 0.5 else crop)[None], size)[0]
        clients[i] = label * BANDS + (y + side // 2) * BANDS // height
    return Split({"image": images, "label": labels}, clients)
