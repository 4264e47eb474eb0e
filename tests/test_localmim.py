"""LocalMIM: its targets against an independent implementation, its stages, its losses, the full size's shapes."""

import base64

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_objective_runs import curves

from learned_aggregation.cli import main
from learned_aggregation.errors import UserError
from learned_aggregation.ssl.encoder import Encoder
from learned_aggregation.ssl.localmim import Options, init_params, make_localmim, measure, reconstruct
from learned_aggregation.ssl.masks import Mask, draw_mask
from learned_aggregation.ssl.stages import hidden_share, stage_weights, stages_of
from learned_aggregation.ssl.targets import TARGETS
from learned_aggregation.tasks import make_task
from learned_aggregation.tasks.models.vit import VisionTransformer

TINY = VisionTransformer(patch=4, hidden=16, mlp=32, heads=2, layers=4, num_classes=1)


def hog_by_loops(image, cell):
    """[n, c, 9] and [n, 9]: scikit-image's definition, pixel by pixel (its `hog` with hard bins, one cell a block)."""
    height, width, channels = image.shape
    each = np.zeros((height // cell, width // cell, channels, 9))
    strongest = np.zeros((height // cell, width // cell, 9))
    for i in range(height):
        for j in range(width):
            found = []
            for c in range(channels):
                down = image[i + 1, j, c] - image[i - 1, j, c] if 0 < i < height - 1 else 0.0
                right = image[i, j + 1, c] - image[i, j - 1, c] if 0 < j < width - 1 else 0.0
                angle = np.rad2deg(np.arctan2(down, right)) % 180
                [place] = [b for b in range(9) if 20 * b <= angle < 20 * (b + 1)]
                found.append((np.hypot(down, right), place))
                each[i // cell, j // cell, c, place] += found[-1][0]
            length, place = max(found, key=lambda one: one[0])
            strongest[i // cell, j // cell, place] += length
    return [
        h / np.sqrt((h**2).sum(-1, keepdims=True) + (1e-5 * cell**2) ** 2)
        for h in (each.reshape(-1, channels, 9), strongest.reshape(-1, 9))
    ]


@pytest.mark.parametrize("cell", [1, 2, 4, 8])
def test_hog_is_that_of_the_definition(cell):
    image = np.random.default_rng(0).uniform(size=(16, 8, 3))
    image[:4, :4] = 0.5  # no gradient inside
    each, strongest = hog_by_loops(image, cell)
    found = {name: TARGETS[name](jnp.asarray(image, jnp.float32)[None], cell)[0] for name in TARGETS}
    np.testing.assert_allclose(found["hog"].reshape(-1, 3, 9), each, atol=2e-5)
    np.testing.assert_allclose(found["hog_strongest"], strongest, atol=2e-5)
    assert found["pixels"].shape == (128 // cell**2, 3 * cell**2)
    np.testing.assert_allclose(found["pixels"][0, :3], image[0, 0], rtol=1e-6)
    if cell > 1:
        np.testing.assert_allclose(found["normalised_pixels"][-1].std(), 1.0, atol=1e-3)


def test_the_full_size_has_the_published_shapes():
    model = VisionTransformer(patch=16, hidden=768, mlp=3072, heads=12, layers=12, num_classes=1)
    mim = make_localmim("vit_b", model, (224, 224, 3), Options(decoder_width=256, decoder_heads=8))
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    assert [cells.shape[1:] for cells in jax.eval_shape(mim.cells, image)] == [
        (3136, 27),
        (784, 27),
        (196, 27),
        (49, 27),
    ]
    key = jax.random.key(0)
    params = jax.eval_shape(lambda: init_params(mim, key))
    mask, predictions = jax.eval_shape(lambda p, x: reconstruct(mim, p, key, x), params, image)
    assert [one.shape[1:] for one in predictions] == [(3136, 27), (784, 27), (196, 27), (49, 27)]
    assert mask.visible.shape == (1, 49)
    assert [stage.tap for stage in mim.stages] == [1, 3, 9, 11]
    encoder = {name: leaf for name, leaf in params.items() if name != "decoders"}
    assert sum(leaf.size for leaf in jax.tree.leaves(encoder)) == 85_798_656  # ViT-B/16 without its head


def test_stages_and_their_weights():
    assert [(s.tap, s.scale) for s in stages_of(6, False)] == [(1, 4), (3, 2), (3, 1), (5, 0.5)]
    assert [s.scale for s in stages_of(8, True)] == [4, 4, 2, 2, 1, 1, 0.5, 0.5]
    np.testing.assert_allclose(stage_weights("early", 4), [4, 3, 2, 1])
    np.testing.assert_allclose(stage_weights("late", 4), [1 / 4, 1 / 3, 1 / 2, 1])
    assert stage_weights("early", 8).shape == (8,)


def test_a_cell_counts_by_the_share_of_it_that_is_hidden():
    hidden = jnp.array([[True, False, True, True]])
    mask = Mask(jnp.array([[1]]), jnp.array([[1, 0, 2, 3]]), hidden)
    sizes = Encoder(4, 8, 8, 2, 4, 2, 2, 3)
    assert hidden_share(mask, sizes, 0.5).tolist() == [[0.75]]
    assert hidden_share(mask, sizes, 1.0).tolist() == [[1, 0, 1, 1]]
    fine = hidden_share(mask, sizes, 2.0).reshape(4, 4)
    np.testing.assert_array_equal(fine, np.kron([[1, 0], [1, 1]], np.ones((2, 2))))


@pytest.fixture(scope="module")
def tiny():
    mim = make_localmim("tiny", TINY, (16, 16, 3), Options(target="hog,pixels,hog_strongest,hog"))
    return mim, init_params(mim, jax.random.key(0))


def test_what_is_hidden_is_not_seen_and_what_is_seen_is_not_scored(tiny):
    mim, params = tiny
    key = jax.random.key(3)
    images = jax.random.uniform(jax.random.key(1), (4, 16, 16, 3))
    mask = draw_mask(key, 4, 16, 0.75)
    hidden = jnp.kron(mask.hidden.reshape(4, 4, 4), jnp.ones((4, 4)))[..., None]
    predict = jax.jit(lambda x: reconstruct(mim, params, key, x)[1])
    for a, b in zip(predict(images), predict(images * (1 - hidden)), strict=True):
        np.testing.assert_array_equal(a, b)
    found = measure(mim, params, jnp.array([4.0, 3.0, 2.0, 1.0]), key, images)
    stages = np.array([found[f"stage_{i}"] for i in (1, 2, 3, 4)])
    np.testing.assert_allclose(found["loss"], np.array([4, 3, 2, 1]) @ stages, rtol=1e-5)
    np.testing.assert_allclose(found["reconstruction"], stages.mean(0), rtol=1e-5)
    # The pixels' loss by hand, on the hidden patches' cells alone.
    guess, cells = predict(images)[1], TARGETS["pixels"](images, 2)
    weight = hidden_share(mask, mim.sizes, 2.0)
    by_hand = (((guess - cells) ** 2).mean(-1) * weight).sum(1) / weight.sum(1)
    np.testing.assert_allclose(stages[1], by_hand, rtol=1e-5)


def test_options_that_do_not_fit_are_refused():
    def refused(match, shape=(16, 16, 3), **options):
        with pytest.raises(UserError, match=match):
            make_localmim("tiny", TINY, shape, Options(**options))

    refused("stage_weights", stage_weights="lat")
    refused("curriculum_steps", stage_weights="curriculum")
    refused("one for each of 4 stages", target="hog,hog")
    refused("target", target="hogg")
    refused("even number of patches", shape=(12, 12, 3))
    refused("patch that divides", shape=(18, 16, 3))
    refused("mask_after", mask_after=4)
    with pytest.raises(UserError, match="vision transformer"):
        make_task("mlp16_glyphsrgb_16", objective="localmim")
    with pytest.raises(UserError, match="Did you mean 'mask_ratio'"):
        make_task(
            "vit_p4_h16_m32_nh2_nl4_glyphsrgb_16", objective="localmim", objective_options={"mask_rate": 1}
        )


@pytest.mark.slow
def test_clients_without_labels_learn_to_reconstruct(tmp_path):
    """By its task's name, in a benchmark like any other, with a curriculum over the stages."""
    flags = (
        f"--run_type benchmark --optimizer fedavg --run_dir {tmp_path / 'out'} --objective localmim --num_runs 2 "
        "--task vit_p4_h16_m32_nh2_nl4_glyphsrgb_16 --num_grads 2 --num_local_steps 4 --local_batch_size 16 "
        "--local_optimizer adamw --local_learning_rate 0.003 --num_inner_steps 30 --eval_every 15 --eval_examples 256 "
        "--cfg-options objective_options.stage_weights=curriculum objective_options.curriculum_steps=120 "
        "objective_options.decoder_width=16"
    )
    assert main(flags.split()) == 0
    loss, mean, *stages = (
        curves(tmp_path / "out", "test", name)
        for name in ("loss", "reconstruction", "stage_1", "stage_2", "stage_3", "stage_4")
    )
    assert np.all(mean[:, -1] < 0.8 * mean[:, 0])
    for at, weights in ((0, (4, 3, 2, 1)), (2, (1 / 4, 1 / 3, 1 / 2, 1))):
        weighted = sum(weight * stage[:, at] for weight, stage in zip(weights, stages, strict=True))
        np.testing.assert_allclose(loss[:, at], weighted, rtol=1e-5)
    picture = tmp_path / "out" / "pictures" / "vit_p4_h16_m32_nh2_nl4_glyphsrgb_16.png"
    encoded = base64.b64encode(picture.read_bytes()).decode()
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<h2>Reconstructions</h2>" in page
    assert f"data:image/png;base64,{encoded}" in page
