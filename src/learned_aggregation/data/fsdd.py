"""Spoken digits as pictures of their sound; the speakers are natural clients."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from learned_aggregation.atomic import from_home
from learned_aggregation.data import DataOptions, Description
from learned_aggregation.data.npz_file import Unreadable, read_npz
from learned_aggregation.data.stratified import stratified_order
from learned_aggregation.errors import UserError
from learned_aggregation.types import SPLITS, Dataset, Split

NUM_CLASSES = 10
ARRAYS = ("x", "offsets", "y", "speaker", "is_test")
RATE = 8000
"""Samples per second."""
WINDOW, BINS = 256, 1024
"""Samples of a Hann window; of its transform, zeros included."""
DECIBELS = 80.0
"""What a picture shows below its loudest point."""


def load(name: str, size: int, options: DataOptions) -> Dataset:
    """The Free Spoken Digit Dataset as mel spectrograms: 3,000 clips of 6 people who say 0 to 9, 50 times each.

    A picture's columns are `size` moments spread evenly over the clip, its rows `size` mel bands up to 4 kHz, the
    lowest last; 255 is the clip's loudest point, 0 is 80 dB below it. test is the set's own; the rest is train,
    inner_valid and outer_valid (80, 10 and 10 %), stratified by speaker and digit.

    Args:
      name: `fsdd`.
      size: side of the pictures.
      options: fsdd_file is used: an .npz of `x`, int16, the clips end to end; `offsets` [N + 1], where they begin;
        `y`, the digit, `speaker` and `is_test` [N].
    Returns:
      A Dataset with images uint8 [N, size, size, 1]; `Split.clients` is the speaker.
    Raises:
      UserError: no file is named, or it is no such file.
    References:
      Jackson et al., "Jakobovski/free-spoken-digit-dataset", 2018 (CC BY-SA 4.0).
    """
    clips, digit, speaker, is_test = read_clips(options)
    images = np.stack([picture(clip, size) for clip in clips])[..., None]
    rest = np.flatnonzero(~is_test)
    rest = rest[stratified_order(speaker[rest].astype(int) * NUM_CLASSES + digit[rest])]
    rows = [*np.split(rest, [len(rest) * 8 // 10, len(rest) * 9 // 10]), np.flatnonzero(is_test)]
    splits = {
        split: Split({"image": images[r], "label": digit[r].astype(np.int32)}, speaker[r].astype(np.int32))
        for split, r in zip(SPLITS, rows, strict=True)
    }
    return Dataset(name, splits, NUM_CLASSES, 1 / 255)


def describe(name: str, size: int, options: DataOptions) -> Description:
    return Description("image", (size, size, 1), NUM_CLASSES, "a file: fsdd_file, spoken digits")


def picture(clip: np.ndarray, size: int) -> np.ndarray:
    """A clip's mel spectrogram in decibels, uint8 [size, size]."""
    padded = np.pad(clip.astype(np.float64), WINDOW // 2)
    starts = np.round(np.linspace(0, len(clip), size)).astype(int)
    frames = padded[starts[:, None] + np.arange(WINDOW)] * np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(frames, BINS)) ** 2 @ mel_bands(size).T
    loudness = 10 * np.log10(np.maximum(power, 1e-10))
    shown = np.clip(1 + (loudness - loudness.max()) / DECIBELS, 0, 1)
    return np.round(255 * shown.T[::-1]).astype(np.uint8)


def mel_bands(count: int) -> Float[np.ndarray, "count bins"]:
    """Triangles whose corners lie evenly on the mel scale, 2595 log10(1 + f/700); each sums to 1."""
    highest = 2595 * np.log10(1 + RATE / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, highest, count + 2) / 2595) - 1)
    low, middle, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    hertz = np.fft.rfftfreq(BINS, 1 / RATE)
    bands = np.maximum(0, np.minimum((hertz - low) / (middle - low), (high - hertz) / (high - middle)))
    bands += np.abs(hertz - middle) == np.abs(hertz - middle).min(axis=1, keepdims=True)  # none is empty
    return bands / bands.sum(axis=1, keepdims=True)


def read_clips(options: DataOptions) -> tuple[list[np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
    """The clips, and each one's digit, speaker and whether it is the set's own test."""
    if options.fsdd_file is None:
        raise UserError(
            "fsdd: expected the path of an .npz with the spoken digits, got none. Give it as --fsdd_file PATH, or run "
            "without files: 'digits' in place of 'fsdd' in the task name."
        )
    path = from_home(options.fsdd_file)
    try:
        stored = read_npz(path, ARRAYS)
    except Unreadable as error:
        raise _unusable(path, error) from None
    x, offsets, digit, speaker, is_test = (stored[name] for name in ARRAYS)
    fitting = (
        all(of.ndim == 1 and of.dtype.kind in "biu" for of in (x, offsets, digit, speaker, is_test))
        and len(offsets) - 1 == len(digit) == len(speaker) == len(is_test) > 0
        and offsets[0] == 0
        and offsets[-1] == len(x)
        and np.all(np.diff(offsets) > 0)
        and 0 <= digit.min() <= digit.max() < NUM_CLASSES
        and 0 < is_test.astype(bool).sum() < len(is_test)
    )
    if not fitting:
        shapes = ", ".join(f"{n} {stored[n].dtype}{list(stored[n].shape)}" for n in ARRAYS)
        raise _unusable(path, f"clips that do not fit together: {shapes}")
    return np.split(x, offsets[1:-1]), digit, speaker, is_test.astype(bool)


def _unusable(path: Path, got: Any) -> UserError:
    return UserError(
        f"fsdd_file: expected an .npz of {', '.join(ARRAYS)}, got {str(path)!r} ({got}). Name the file that has them."
    )
