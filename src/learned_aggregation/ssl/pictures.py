"""Reconstructions as pictures: what an encoder sees of an image, what it predicts of the rest, and what is there."""

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from learned_aggregation.ssl.masks import cut_patches, join_patches
from learned_aggregation.ssl.targets import BINS

CELL = 16
"""Pixels along a side of a patch in a picture, at least."""
GREY = 0.5
"""Of a patch that is hidden."""

Shown = Callable[[Array], Array]
"""Pixels as the model reads them [..., c] -> as they are drawn, in 0..1."""


def drawn_as(stored: np.ndarray, scale: Any, shift: Any) -> Shown:
    """How inputs are drawn: in 0..1 as they are, of bytes from 0 to 255, others from their least to their greatest.

    Args:
      stored: images as a data set has them, whose inputs are stored * scale - shift, of floats as they are.

    Example:
      >>> drawn_as(np.array([-1.0, 3.0]), 1.0, 0.0)(jnp.array([0.0, 1.0])).tolist()
      [0.25, 0.5]
    """
    inputs = stored if np.issubdtype(stored.dtype, np.floating) else stored * scale - shift
    black, white = float(inputs.min()), float(inputs.max())
    if black >= 0 and white <= 1:
        return lambda pixels: pixels
    if stored.dtype == np.uint8:
        black, white = -shift, 255.0 * scale - shift
    return lambda pixels: (pixels - black) / np.maximum(white - black, 1e-12)


def reconstruction_pictures(
    images: Float[Array, "n h w c"],
    hidden: Bool[Array, "n N"],
    target: str,
    predictions: Float[Array, "n cells d"],
    truth: Float[Array, "n cells d"],
    patch: int,
    side: int,
    shown: Shown = lambda pixels: pixels,
) -> UInt8[np.ndarray, "n 4 H W 3"]:
    """The image, its visible patches, what is predicted, the target of that.

    Pixels are drawn as they are (normalised ones by the cell's mean and deviation), histograms of gradients as the
    edges they stand for. Where cells are patches, the visible ones of the prediction show the target.

    Args:
      images: as the model reads them, with one channel, or three and more, of which the first three are drawn.
      hidden: which of the N patches are.
      target: of `targets.TARGETS`; predictions and truth are its values at cells of `side` pixels.
      patch: pixels along a side.

    Example:
      >>> image, hidden = jnp.zeros((2, 8, 8, 3)), jnp.zeros((2, 4), bool)
      >>> reconstruction_pictures(image, hidden, "hog", jnp.zeros((2, 4, 27)), jnp.zeros((2, 4, 27)), 4, 4).shape
      (2, 4, 32, 32, 3)
    """
    times = -(-CELL // patch)
    grid = images.shape[1] // patch, images.shape[2] // patch
    seen = jnp.where(hidden[..., None], GREY, cut_patches(shown(images), patch))
    drawn = [_enlarged(part, times) for part in (shown(images), join_patches(seen, *grid, patch))]
    if side == patch:
        predictions = jnp.where(hidden[..., None], predictions, truth)
    if target == "normalised_pixels":
        cells = cut_patches(images, side)
        mean, deviation = cells.mean(-1, keepdims=True), jnp.sqrt(cells.var(-1, keepdims=True) + 1e-6)
        predictions, truth = predictions * deviation + mean, truth * deviation + mean
    grid = images.shape[1] // side, images.shape[2] // side
    for part in (predictions, truth):
        if target.startswith("hog"):
            drawn.append(_edges(part, grid, side * times))
        else:
            drawn.append(_enlarged(shown(join_patches(part, *grid, side)), times))
    return np.stack(drawn, axis=1)


def _enlarged(images: Array, times: int) -> np.ndarray:
    """uint8 [n, times h, times w, 3] of [n, h, w, c] in 0..1; one or two channels are drawn as grey."""
    large = np.asarray(images).repeat(times, axis=1).repeat(times, axis=2)
    colours = large[..., :3] if large.shape[-1] >= 3 else large[..., :1]
    colours = np.nan_to_num(colours)  # of a model that diverged
    return (np.clip(np.broadcast_to(colours, (*large.shape[:3], 3)), 0, 1) * 255).round().astype(np.uint8)


def _edges(histograms: Array, grid: tuple[int, int], side: int) -> np.ndarray:
    """Histograms [n, cells, 9 or more] as lines in cells of `side` pixels, the strongest of all white."""
    values = np.nan_to_num(np.asarray(histograms, np.float64), posinf=0.0, neginf=0.0)
    strength = np.clip(values.reshape(*values.shape[:2], -1, BINS).mean(2), 0, None)
    edges = np.tensordot(strength, edge_drawings(side), axes=1)
    edges = edges / max(float(edges.max()), 1e-6)
    return _enlarged(join_patches(jnp.asarray(edges.reshape(*edges.shape[:2], -1)), *grid, side), 1)


def edge_drawings(side: int) -> Float[np.ndarray, "9 side side"]:
    """A line through the middle of a cell for each bin, at right angles to its gradients.

    Example:
      >>> drawn = edge_drawings(9)
      >>> drawn.shape, bool(drawn[0].sum(1).std() < drawn[0].sum(0).std())  # gradients to the right: an upright edge
      ((9, 9, 9), True)
    """
    middle = (side - 1) / 2
    y, x = np.meshgrid(np.arange(side) - middle, np.arange(side) - middle, indexing="ij")
    angles = (np.arange(BINS) + 0.5)[:, None, None] * (math.pi / BINS)
    off_line = np.abs(x * np.cos(angles) + y * np.sin(angles))
    inside = np.hypot(x, y) <= side / 2
    return (np.clip(1.0 - off_line / max(1.0, side / 12), 0, 1) * inside).astype(np.float32)
