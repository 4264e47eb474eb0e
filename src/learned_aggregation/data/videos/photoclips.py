"""`photoclips`: drawn clips as a data set, with nothing to download and a family of motions for each client."""

import numpy as np

from learned_aggregation.data import DataOptions, Description
from learned_aggregation.data.cache import cache_dir, cached_arrays
from learned_aggregation.data.images import check_fits
from learned_aggregation.data.videos import SCALE, SHIFT
from learned_aggregation.data.videos.scenes import draw_clips
from learned_aggregation.types import SPLITS, Dataset, Split

FORMAT = 1  # raise it whenever the clips change: it is part of the cache file's name
SIZES: dict[str, int] = dict(zip(SPLITS, (960, 96, 96, 96), strict=True))
FRAMES = 13
LIGHT = 0.35
"""Of `photoclipslit`: see `scenes.draw_clip`."""


def load(name: str, size: int, options: DataOptions) -> Dataset:
    """1,248 clips (960/96/96/96) of 13 frames, see `scenes`; `Split.clients` is each clip's family of motions.

    Args:
      name: `photoclips`, whose frames flicker as a whole, or `photoclipslit`, whose light also changes from place to
        place.
      size: side of the frames in pixels.
      options: seed and cache_dir are used.
    Returns:
      A Dataset of `video`, uint8 [N, 13, size, size, 3]. The textures of the splits are cut from disjoint parts of the
      photographs (the two validation splits share theirs). The same for the same seed; kept in the cache directory.
    Raises:
      UserError: frames that do not fit into memory.
    """
    check_fits(name, size, sum(SIZES.values()) * FRAMES, 3)
    file = f"{name}-v{FORMAT}-{size}px-seed{options.seed}.npz"
    arrays = cached_arrays(
        cache_dir(options.cache_dir) / file, lambda: generate(SIZES, name, size, options.seed)
    )
    splits = {
        split: Split({"video": arrays[f"{split}_video"]}, arrays[f"{split}_family"]) for split in SPLITS
    }
    return Dataset(name, splits, 0, SCALE, SHIFT)


def describe(name: str, size: int, options: DataOptions) -> Description:
    source = "embedded: objects drawn over scikit-learn's photographs"
    return Description("video", (FRAMES, size, size, 3), 0, source)


def light_of(name: str) -> float:
    """The light field's strength in a data set of this file."""
    return LIGHT if name.endswith("lit") else 0.0


def generate(sizes: dict[str, int], name: str, size: int, seed: int) -> dict[str, np.ndarray]:
    """`<split>_video` uint8 [N, 13, size, size, 3] and `<split>_family` int32 [N] of every split."""
    arrays = {}
    for split, count in sizes.items():
        clips, families = draw_clips(seed, split, count, size, FRAMES, light_of(name))
        arrays |= {f"{split}_video": np.stack([clip.video for clip in clips]), f"{split}_family": families}
    return arrays
