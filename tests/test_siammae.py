"""The objective `siammae`: pairs, masks, crops and losses against what they must be; one federated round; resuming."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_aggregation.data.federated import to_federated
from learned_aggregation.data.videos.scenes import draw_clips
from learned_aggregation.errors import UserError
from learned_aggregation.ssl.central import Recipe, make_step, rate_at, train
from learned_aggregation.ssl.masks import cut_patches
from learned_aggregation.ssl.siamese import (
    attention_weights,
    decoder_tokens,
    init_siamese,
    memory_of,
    reconstruct,
    siammae,
)
from learned_aggregation.ssl.siamese_task import (
    SiameseOptions,
    augmented_pairs,
    draw_pairs,
    hiding_mask,
    kept_patches,
    masked_loss,
    siamese_options,
    siamese_task,
)
from learned_aggregation.types import Dataset, Split

SIZES = siammae("_p4_h16_m32_nh2_nl2_dh16_dnh2_dnl1", 3)
OPTIONS = SiameseOptions(1, 5, epsilon=0.1)


@pytest.fixture(scope="module")
def dataset():
    clips, families = draw_clips(0, "train", 8, 16, 6)
    split = Split({"video": np.stack([clip.video for clip in clips])}, families)
    return Dataset("drawn", {"train": split}, 0, 4 / 255, 2.0)


@pytest.fixture(scope="module")
def task(dataset):
    return siamese_task("siammae", SIZES, dataset, OPTIONS)


@pytest.fixture(scope="module")
def params():
    return init_siamese(jax.random.key(0), SIZES, 3)


def numbered(batch, frames):
    """Clips whose pixels are their frame's number."""
    return jnp.broadcast_to(
        jnp.arange(frames, dtype=jnp.float32)[None, :, None, None, None], (batch, frames, 4, 4, 3)
    )


def test_gaps_are_uniform_and_the_frames_are_a_gap_apart():
    video = numbered(4000, 10)
    pairs = draw_pairs(jax.random.key(0), video, SiameseOptions(2, 5), 2)
    gap = pairs.second[..., 0, 0, 0] - pairs.first[..., 0, 0, 0]
    np.testing.assert_array_equal(gap, pairs.gap)
    counts = np.bincount(np.asarray(pairs.gap).ravel())
    assert counts[:2].sum() == 0
    assert np.all(np.abs(counts[2:] / 8000 - 0.25) < 0.02)
    assert set(np.unique(pairs.first)) == set(range(8))


def test_no_gap_is_longer_than_the_clip():
    pairs = draw_pairs(jax.random.key(0), numbered(500, 4), SiameseOptions(1, 48), 1)
    assert sorted(np.unique(pairs.gap)) == [1, 2, 3]


def test_both_frames_are_cut_and_mirrored_alike():
    frames = jax.random.uniform(jax.random.key(1), (64, 8, 8, 3))
    pairs = draw_pairs(jax.random.key(2), jnp.stack([frames, frames], 1), SiameseOptions(1, 1), 2)
    cut = augmented_pairs(jax.random.key(3), pairs, SiameseOptions())
    np.testing.assert_allclose(cut.first, cut.second[0], atol=1e-6)
    np.testing.assert_allclose(cut.first, cut.second[1], atol=1e-6)
    whole = augmented_pairs(jax.random.key(3), pairs, SiameseOptions(smallest_crop=1.0))
    mirrored = np.array(
        [np.allclose(a, b[:, ::-1], atol=1e-5) for a, b in zip(whole.first, pairs.first, strict=True)]
    )
    same = np.array([np.allclose(a, b, atol=1e-5) for a, b in zip(whole.first, pairs.first, strict=True)])
    assert np.all(mirrored ^ same)
    assert 16 < mirrored.sum() < 48


def test_a_crop_is_part_of_the_frame():
    """Of a ramp, the slope says how much was cut out, its ends where: between half of the area and all of it."""
    ramp = jnp.broadcast_to(jnp.arange(32.0)[None, :, None], (32, 32, 3))
    pairs = draw_pairs(
        jax.random.key(2), jnp.broadcast_to(ramp, (200, 2, 32, 32, 3)), SiameseOptions(1, 1), 1
    )
    rows = augmented_pairs(jax.random.key(3), pairs, SiameseOptions(flip=False)).first[:, 0, 4:-4, 0]
    slope = np.diff(rows, axis=1).mean(1)
    assert slope.min() > 0.5**0.5 - 0.01
    assert slope.max() < 1.01
    assert rows.min() >= 0
    assert np.ptp(slope) > 0.2


def test_one_patch_at_least_is_seen():
    assert [kept_patches(n, 0.95) for n in (16, 20, 100, 144, 196)] == [1, 1, 5, 7, 9]
    mask = hiding_mask(jax.random.key(0), 50, 144, 0.95)
    assert np.all((~mask.hidden).sum(1) == 7)
    assert len({tuple(row) for row in np.sort(mask.visible, 1).tolist()}) > 45


def test_the_loss_is_over_hidden_patches_of_normalised_pixels(params):
    frames = jax.random.normal(jax.random.key(1), (2, 3, 16, 16, 3))
    mask = hiding_mask(jax.random.key(2), 3, 16, 0.75)
    memory = memory_of(params, frames[0], SIZES)
    found = masked_loss(params, memory, frames[1], mask, SIZES, 0.1)
    predicted = np.asarray(reconstruct(params, memory, frames[1], mask, SIZES))
    patches = np.asarray(cut_patches(frames[1], 4))
    for i in range(3):
        total = []
        for n in np.flatnonzero(mask.hidden[i]):
            pixels = patches[i, n]
            target = (pixels - pixels.mean()) / np.sqrt(pixels.var() + 0.1)
            total.append(((predicted[i, n] - target) ** 2).mean())
        assert len(total) == 12
        np.testing.assert_allclose(found[i], np.mean(total), rtol=1e-5)


def test_hidden_patches_are_not_seen(params):
    first, second = jax.random.normal(jax.random.key(1), (2, 1, 16, 16, 3))
    mask = hiding_mask(jax.random.key(2), 1, 16, 0.75)
    shown = jnp.repeat(jnp.repeat(~mask.hidden.reshape(1, 4, 4), 4, 1), 4, 2)[..., None]
    memory = memory_of(params, first, SIZES)
    whole, part = (
        reconstruct(params, memory, x, mask, SIZES) for x in (second, jnp.where(shown, second, 9.0))
    )
    np.testing.assert_array_equal(whole, part)
    other = reconstruct(params, memory_of(params, first + 1, SIZES), second, mask, SIZES)
    assert np.abs(other - whole).max() > 1e-3


def test_attention_is_what_the_decoder_uses(params):
    first, second = jax.random.normal(jax.random.key(1), (2, 2, 16, 16, 3))
    mask = hiding_mask(jax.random.key(2), 2, 16, 0.75)
    memory = memory_of(params, first, SIZES)
    weights = attention_weights(params, decoder_tokens(params, second, mask, SIZES), memory, SIZES)
    assert weights.shape == (1, 2, 2, 16, 16)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)


def test_masks_are_fresh_at_every_step_and_paired_in_evaluation(task, dataset):
    params, state = task.init(jax.random.key(0))
    batch = {"video": jnp.asarray(dataset.splits["train"].examples["video"])}
    loss = jax.jit(lambda key: task.loss(params, state, key, batch)[0])
    assert float(loss(jax.random.key(1))) != float(loss(jax.random.key(2)))
    evaluate = jax.jit(lambda key: task.evaluate(params, state, key, batch))
    one, again = evaluate(jax.random.key(1)), evaluate(jax.random.key(1))
    assert sorted(one) == sorted(metric.name for metric in task.metrics)
    np.testing.assert_array_equal(one["loss"], again["loss"])
    assert one["loss"].shape == (8,)


def test_what_cannot_be_is_refused(dataset):
    for sizes, options, message in (
        (
            "_p5_h16_m32_nh2_nl2_dh16_dnh2_dnl1",
            OPTIONS,
            "frames that patches of 5 pixels divide, got 16 x 16",
        ),
        ("_p4_h16_m32_nh3_nl2_dh16_dnh2_dnl1", OPTIONS, "heads nh that divides the width 16, got 3"),
        ("_p4_h16_m32_nh2_nl2_dh16_dnh2_dnl1", SiameseOptions(6, 48), "shortest gap of at most 5 frames"),
    ):
        with pytest.raises(UserError, match=message):
            siamese_task("siammae", siammae(sizes, 3), dataset, options)
    with pytest.raises(
        UserError, match=r"objective_options.mask_ratio: expected a share between 0 and 1, got 1.5"
    ):
        siamese_options({"mask_ratio": 1.5})


def test_the_rate_rises_and_falls():
    recipe = Recipe(2000, 40, 2048, learning_rate=1.5e-4, per_256=True, min_rate=1e-6)
    assert recipe.peak == pytest.approx(1.2e-3)
    assert [float(rate_at(recipe, step)) for step in (0, 20, 40, 1020, 2000)] == pytest.approx(
        [0, 6e-4, 1.2e-3, 6.005e-4, 1e-6], rel=1e-4
    )


def test_training_that_was_stopped_goes_on_bit_for_bit(task, dataset, tmp_path):
    data = to_federated(dataset.splits["train"], [np.arange(8)])
    recipe = Recipe(6, 1, 4, accumulate=2, learning_rate=1e-3)
    how = {"say": str, "step": make_step(task, recipe)}
    whole = train(task, data, recipe, 0, tmp_path / "whole", **how)
    train(task, data, recipe, 0, tmp_path / "parts", 4, **how, stopped=lambda done: done == 3)
    parts = train(task, data, recipe, 0, tmp_path / "parts", **how)
    for a, b in zip(jax.tree.leaves(whole.theta), jax.tree.leaves(parts.theta), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(whole.losses, parts.losses)
    assert np.all(np.asarray(whole.losses) > 0)


def test_one_clip_alone_has_no_other_clips_loss(task, params, dataset):
    """Rolled by one place it would be given its right first frame, and that under another name."""
    video = jnp.asarray(dataset.splits["train"].examples["video"])
    with pytest.raises(UserError, match=r"loss_of_another_clip: expected a batch of at least 2 clips, got 1"):
        task.evaluate(params, (), jax.random.key(0), {"video": video[:1]})
    found = task.evaluate(params, (), jax.random.key(0), {"video": video[:2]})
    assert (found["loss"] != found["loss_of_another_clip"]).all()
