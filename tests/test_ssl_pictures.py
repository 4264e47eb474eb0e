"""Reconstructions as pictures: what they show of an image, by target."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_aggregation.ssl import localmim as module
from learned_aggregation.ssl.localmim import Options, draw_reconstructions, init_params, make_localmim
from learned_aggregation.ssl.pictures import drawn_as, edge_drawings, reconstruction_pictures
from learned_aggregation.ssl.targets import TARGETS
from learned_aggregation.tasks.models.vit import VisionTransformer
from learned_aggregation.types import Dataset, Split

PATCH, TIMES = 4, 4
HIDDEN = np.array([[True, False, False, True], [False, True, True, False]])


@pytest.fixture
def images():
    return jnp.asarray(np.random.default_rng(0).uniform(size=(2, 8, 8, 3)), jnp.float32)


def large(values):
    """uint8 of values in 0..1, enlarged as pictures are."""
    array = np.asarray(values).repeat(TIMES, axis=1).repeat(TIMES, axis=2)
    return (array * 255).round().astype(np.uint8)


@pytest.mark.parametrize("target", ["pixels", "normalised_pixels"])
@pytest.mark.parametrize("side", [2, 4])
def test_right_predictions_are_drawn_as_the_image(images, target, side):
    inputs = images * 2 - 0.5
    cells = TARGETS[target](inputs, side)
    drawn = reconstruction_pictures(
        inputs, jnp.asarray(HIDDEN), target, cells, cells, PATCH, side, lambda x: (x + 0.5) / 2
    )
    assert drawn.dtype == np.uint8
    for column in (0, 2, 3):
        np.testing.assert_allclose(drawn[:, column].astype(int), large(images), atol=1)
    seen = drawn[0, 1]
    assert (seen[:16, :16] == 128).all()
    assert (seen[16:, 16:] == 128).all()
    np.testing.assert_array_equal(seen[:16, 16:], large(images)[0, :16, 16:])


def test_predictions_are_drawn_where_patches_are_hidden_alone(images):
    cells = TARGETS["pixels"](images, PATCH)
    drawn = reconstruction_pictures(
        images, jnp.asarray(HIDDEN), "pixels", jnp.zeros_like(cells), cells, PATCH, PATCH
    )
    for image, hidden in enumerate(HIDDEN):
        for patch, dark in enumerate(hidden):
            rows, columns = (
                slice(patch // 2 * 16, patch // 2 * 16 + 16),
                slice(patch % 2 * 16, patch % 2 * 16 + 16),
            )
            assert (drawn[image, 2, rows, columns] == 0).all() == dark


def test_one_channel_is_grey_and_a_fourth_is_not_drawn(images):
    for channels in (1, 4):
        shown = jnp.concatenate([images, images[..., :1]], axis=-1)[..., :channels]
        cells = TARGETS["pixels"](shown, PATCH)
        drawn = reconstruction_pictures(shown, jnp.asarray(HIDDEN), "pixels", cells, cells, PATCH, PATCH)
        want = np.repeat(images[..., :1], 3, axis=-1) if channels == 1 else images
        np.testing.assert_array_equal(drawn[:, 0], large(want))


def test_histograms_are_drawn_as_edges():
    """An edge between dark above and bright below lies level; one between left and right stands upright."""
    level = np.zeros((8, 8, 1), np.float32)
    level[4:] = 1.0
    both = jnp.asarray(np.stack([level, level.swapaxes(0, 1)]))
    cells = TARGETS["hog"](both, 8)
    nothing = jnp.ones((2, 1), bool)
    drawn = reconstruction_pictures(both, nothing, "hog", cells, cells, 8, 8)[:, 3, ..., 0].astype(float)
    spread = [(np.abs(np.diff(one, axis=0)).sum(), np.abs(np.diff(one, axis=1)).sum()) for one in drawn]
    assert spread[0][0] > 2 * spread[0][1]
    assert spread[1][1] > 2 * spread[1][0]


def test_an_edge_is_at_right_angles_to_its_gradients():
    drawn = edge_drawings(33)
    middle = np.arange(33) - 16
    for number, line in enumerate(drawn):
        angle = (number + 0.5) * np.pi / 9
        along_gradient = (line * (np.cos(angle) * middle[None] + np.sin(angle) * middle[:, None]) ** 2).sum()
        along_edge = (line * (-np.sin(angle) * middle[None] + np.cos(angle) * middle[:, None]) ** 2).sum()
        assert along_edge > 20 * along_gradient


@pytest.mark.parametrize("target", ["pixels", "hog", "hog,hog_strongest,pixels,normalised_pixels"])
def test_a_model_draws_the_stage_whose_cells_are_its_patches(images, target):
    model = VisionTransformer(PATCH, hidden=8, mlp=8, heads=2, layers=4, num_classes=1)
    options = Options(target=target, mask_ratio=0.5, decoder_width=8, decoder_heads=2)
    mim = make_localmim("m", model, (8, 8, 3), options)
    params = init_params(mim, jax.random.key(0))
    drawn = draw_reconstructions(mim, params, jax.random.key(1), images, lambda x: x)
    assert drawn.shape == (2, 4, 32, 32, 3)
    np.testing.assert_array_equal(drawn[:, 0], large(images))
    grey = (drawn[:, 1] == 128).all(-1).mean()
    assert grey == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("stored", "scale", "shift", "wanted"),
    [
        (np.array([0, 16, 8, 4], np.uint8), 1 / 16, 0.0, [0, 255, 128, 64]),
        (np.array([0, 255, 128, 64], np.uint8), 1 / 255, 0.0, [0, 255, 128, 64]),
        (np.array([0, 200, 128, 64], np.uint8), 1 / 64, 2.0, [0, 200, 128, 64]),
        (np.array([0, 1, 0.5, 0.25], np.float32), 1.0, 0.0, [0, 255, 128, 64]),
        (np.array([-2, 2, 0, -1], np.float32), 1.0, 0.0, [0, 255, 128, 64]),
        (np.array([0, 4000, 2000, 1000], np.int32), 1.0, 0.0, [0, 255, 128, 64]),
        (np.array([3, 3, 3, 3], np.float32), 1.0, 0.0, [0, 0, 0, 0]),
    ],
)
def test_images_are_drawn_from_black_to_white_however_they_are_stored(stored, scale, shift, wanted):
    inputs = stored if stored.dtype == np.float32 else stored * scale - shift
    drawn = drawn_as(stored, scale, shift)(jnp.asarray(inputs, jnp.float32))
    np.testing.assert_allclose(255 * drawn, wanted, atol=0.6)


def test_a_task_draws_images_as_its_data_set_stores_them(monkeypatch):
    """Of 8-bit images whose white is 16, such as those of digits."""
    data = Dataset("mine", {"train": Split({"image": np.full((4, 8, 8, 1), 16, np.uint8)})}, 1, 1 / 16)
    model = VisionTransformer(PATCH, hidden=8, mlp=8, heads=2, layers=1, num_classes=1)
    task = module.localmim("m", model, data, target="pixels", decoder_width=8, decoder_heads=2)
    monkeypatch.setattr(module, "draw_reconstructions", lambda mim, params, key, inputs, shown: shown(inputs))
    np.testing.assert_array_equal(
        task.pictures({}, None, {"image": data.splits["train"].examples["image"]}), 1
    )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("target", ["pixels", "normalised_pixels", "hog"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_predictions_of_a_model_that_diverged_are_drawn(images, target, value):
    cells = TARGETS[target](images, PATCH)
    bad = jnp.full_like(cells, value)
    drawn = reconstruction_pictures(images, jnp.asarray(HIDDEN), target, bad, cells, PATCH, PATCH)
    np.testing.assert_array_equal(drawn[:, 0], large(images))
