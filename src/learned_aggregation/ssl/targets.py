"""What is predicted of a hidden patch, at any size of cells: histograms of oriented gradients, or pixels."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_aggregation.registry import Registry
from learned_aggregation.ssl.masks import cut_patches

BINS = 9
EPSILON = 1e-5
"""Added, squared, to the squared norm of a histogram."""

Target = Callable[[Float[Array, "B h w c"], int], Float[Array, "B n d"]]
"""(images as the model reads them, side of a cell in pixels) -> what is to be predicted of each cell, row by row."""

TARGETS = Registry(
    "target",
    {
        "hog": f"{__name__}:hog",
        "hog_strongest": f"{__name__}:hog_strongest",
        "pixels": f"{__name__}:pixels",
        "normalised_pixels": f"{__name__}:normalised_pixels",
    },
)
"""Name -> Target."""


def hog(images: Float[Array, "B h w c"], cell: int) -> Float[Array, "B n c*9"]:
    """Nine bins for each channel: a pixel adds the length of the channel's gradient to the bin of its orientation.

    g = (x[i+1] - x[i-1]) along rows and columns, 0 at the border; bin floor(9 angle / pi) of an angle in [0, pi), all
    of it (no share for the neighbour); the mean over the cell's pixels; each channel's nine then divided by
    sqrt(their squared norm + 1e-10). With one channel this is scikit-image's `hog` with cells as blocks and norm L2.

    Example:
      >>> import jax.numpy as jnp
      >>> hog(jnp.ones((2, 8, 8, 3)), 4).shape
      (2, 4, 27)
    """
    return _cells(_votes(*_gradients(images)), cell)


def hog_strongest(images: Float[Array, "B h w c"], cell: int) -> Float[Array, "B n 9"]:
    """Nine bins in all: at each pixel the gradient of the channel in which it is longest, as scikit-image has it."""
    by_row, by_column = _gradients(images)
    best = jnp.argmax(by_row**2 + by_column**2, axis=-1, keepdims=True)
    strongest = (jnp.take_along_axis(g, best, axis=-1) for g in (by_row, by_column))
    return _cells(_votes(*strongest), cell)


def pixels(images: Float[Array, "B h w c"], cell: int) -> Float[Array, "B n d"]:
    """The cell's pixels, as the model reads them."""
    return cut_patches(images, cell)


def normalised_pixels(images: Float[Array, "B h w c"], cell: int) -> Float[Array, "B n d"]:
    """The cell's pixels less their mean, over sqrt(their variance + 1e-6)."""
    cells = cut_patches(images, cell)
    centred = cells - jnp.mean(cells, axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + 1e-6)


def _gradients(images: Array) -> tuple[Array, Array]:
    """Central differences along rows and along columns, [B, h, w, c] each."""
    by_row = jnp.pad(images[:, 2:] - images[:, :-2], ((0, 0), (1, 1), (0, 0), (0, 0)))
    by_column = jnp.pad(images[:, :, 2:] - images[:, :, :-2], ((0, 0), (0, 0), (1, 1), (0, 0)))
    return by_row, by_column


def _votes(by_row: Array, by_column: Array) -> Float[Array, "B h w c 9"]:
    angle = jnp.mod(jnp.arctan2(by_row, by_column), math.pi)
    # An angle a rounding error below pi is one of 0.
    bins = jnp.mod(jnp.floor(angle * (BINS / math.pi)).astype(jnp.int32), BINS)
    return jnp.sqrt(by_row**2 + by_column**2)[..., None] * jax.nn.one_hot(bins, BINS)


def _cells(votes: Array, cell: int) -> Float[Array, "B n c*9"]:
    batch, height, width, channels, _ = votes.shape
    rows, columns = height // cell, width // cell
    blocks = votes[:, : rows * cell, : columns * cell].reshape(
        batch, rows, cell, columns, cell, channels, BINS
    )
    means = jnp.mean(blocks, axis=(2, 4))
    scale = jax.lax.rsqrt(jnp.sum(means**2, axis=-1, keepdims=True) + EPSILON**2)
    return (means * scale).reshape(batch, rows * columns, channels * BINS)
