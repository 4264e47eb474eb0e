"""What the layers of a drawn clip are covered with: scikit-learn's two photographs, no pixel in two splits."""

import functools

import numpy as np

COLUMNS = {
    "train": (0.0, 0.575),
    "inner_valid": (0.59, 0.78),
    "outer_valid": (0.59, 0.78),
    "test": (0.8, 1.0),
}
"""Split -> the part of each photograph's width that its textures are cut from; both validation splits share theirs."""


@functools.cache
def photographs() -> tuple[np.ndarray, ...]:
    """Both, halved by averaging 2 x 2 pixels: float32 [213, 320, 3] in [0, 1]."""
    from sklearn.datasets import load_sample_images

    return tuple(_halved(np.asarray(image)) for image in load_sample_images().images)


def _halved(image: np.ndarray) -> np.ndarray:
    height, width = (side // 2 for side in image.shape[:2])
    blocks = image[: 2 * height, : 2 * width].reshape(height, 2, width, 2, 3)
    return (blocks.mean((1, 3)) / 255).astype(np.float32)


class Texture:
    """A photograph's part with its channels permuted and scaled; beyond its edges it is mirrored.

    Args:
      split: of COLUMNS.
      span: pixels of the photograph that a length of 1 takes.
    """

    def __init__(self, rng: np.random.Generator, split: str, span: float):
        photograph = photographs()[rng.integers(2)]
        left, right = (round(part * photograph.shape[1]) for part in COLUMNS[split])
        self._pixels = photograph[:, left:right][..., rng.permutation(3)] * rng.uniform(0.7, 1.2, 3)
        self._origin = rng.uniform(0, 1, 2) * (right - left, photograph.shape[0])
        self._span = span

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Colours at points [..., (x, y)], linear between pixels: [..., 3]."""
        x, y = np.moveaxis(self._origin + self._span * points, -1, 0)
        left, top = np.floor(x).astype(int), np.floor(y).astype(int)
        right_share, low_share = (x - left)[..., None], (y - top)[..., None]
        columns = [_mirrored(left + step, self._pixels.shape[1]) for step in (0, 1)]
        rows = [_mirrored(top + step, self._pixels.shape[0]) for step in (0, 1)]
        upper, lower = (
            (1 - right_share) * self._pixels[row, columns[0]] + right_share * self._pixels[row, columns[1]]
            for row in rows
        )
        return (1 - low_share) * upper + low_share * lower


def _mirrored(index: np.ndarray, count: int) -> np.ndarray:
    """An index of any integer, folded into [0, count)."""
    place = index % (2 * count)
    return np.where(place < count, place, 2 * count - 1 - place)
