"""Augmentation of images on the host, by name: each image is changed by its own random number and nothing else."""

from collections.abc import Callable, Sequence

import numpy as np

from learned_aggregation.data.windows import random_bits

Images = np.ndarray
"""uint8 [N, side, side, channels]."""


def crop(images: Images, random: np.ndarray) -> Images:
    """Pads with zeros by an eighth of the side (4 of 32 pixels) all round and cuts the old size out at random.

    References:
      He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2.
    """
    count, height, width, _ = images.shape
    pad = max(1, height // 8)
    padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    corner = random >> np.uint64(32)
    tops = (corner % np.uint64(2 * pad + 1)).tolist()
    lefts = (corner // np.uint64(2 * pad + 1) % np.uint64(2 * pad + 1)).tolist()
    out = np.empty_like(images)
    for i in range(count):
        out[i] = padded[i, tops[i] : tops[i] + height, lefts[i] : lefts[i] + width]
    return out


def flip(images: Images, random: np.ndarray) -> Images:
    """Mirrors half of the images, left to right."""
    mirrored = (random & np.uint64(1)).astype(bool)
    return np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


AUGMENTATIONS: dict[str, Callable[[Images, np.ndarray], Images]] = {"crop": crop, "flip": flip}


def augmented(
    examples: dict[str, np.ndarray], random: np.ndarray, names: Sequence[str]
) -> dict[str, np.ndarray]:
    """The examples with their images changed by each of `names` in turn.

    Args:
      random: one number of each example, uint64 [N].
      names: of AUGMENTATIONS.
    """
    images = examples["image"]
    for turn, name in enumerate(names):
        images = AUGMENTATIONS[name](images, random_bits(turn, random.view(np.int64)))
    return examples | {"image": images}
