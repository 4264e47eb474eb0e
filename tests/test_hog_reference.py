"""Histograms of oriented gradients against scikit-image's `hog`."""

import jax.numpy as jnp
import numpy as np
import pytest
from skimage.feature import hog
from sklearn.datasets import load_sample_images

from learned_aggregation.ssl.targets import BINS, TARGETS


@pytest.fixture(scope="module")
def photograph():
    """Float64, so that no rounding moves a gradient between bins, without the ties of whole numbers."""
    image = load_sample_images().images[0][100:164, 200:296] / 255
    return image + np.random.default_rng(0).uniform(0, 1e-3, image.shape)


def reference(image, cell):
    """[rows, columns, 9]: one cell per block; several channels: of the strongest at each pixel."""
    found = hog(
        image,
        orientations=BINS,
        pixels_per_cell=(cell, cell),
        cells_per_block=(1, 1),
        block_norm="L2",
        feature_vector=False,
        channel_axis=-1 if image.ndim == 3 else None,
    )
    return found[:, :, 0, 0].reshape(-1, BINS)


@pytest.mark.parametrize("cell", [4, 8, 16, 32])
def test_histograms_are_scikit_image_s(photograph, cell):
    """To the rounding of single precision, of histograms of norm 1."""
    image = jnp.asarray(photograph, jnp.float32)[None]
    each = np.asarray(TARGETS["hog"](image, cell)[0]).reshape(-1, 3, BINS)
    for channel in range(3):
        np.testing.assert_allclose(each[:, channel], reference(photograph[..., channel], cell), atol=1e-4)
    strongest = TARGETS["hog_strongest"](image, cell)[0]
    np.testing.assert_allclose(strongest, reference(photograph, cell), atol=1e-4)
