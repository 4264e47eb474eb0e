"""Task augmentation: the same problem in other units, with other pixels and labels; one draw an episode."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_run import SIZES

from learned_aggregation import build
from learned_aggregation.config.resolve import Config
from learned_aggregation.errors import UserError
from learned_aggregation.meta_training.unroll import is_over
from learned_aggregation.problems.mup import shapes_of
from learned_aggregation.problems.task_augmentation import Augmentation, augment_task, draw_augmentation

CONFIG = Config(**SIZES | {"task": "conv4_digits_8"})


@pytest.fixture(scope="module")
def task():
    return build.load_task(CONFIG, CONFIG.task).task


@pytest.fixture(scope="module")
def batch():
    keys = jax.random.split(jax.random.key(1))
    return {
        "image": jax.random.uniform(keys[0], (5, 8, 8, 1)),
        "label": jax.random.randint(keys[1], (5,), 0, 10),
    }


def draw(task, permuted=(), scale_range=(0.3, 3.0)):
    return draw_augmentation(jax.random.key(2), shapes_of(task), (8, 8, 1), 10, scale_range, permuted)


def loss_of(task, params, batch):
    return task.loss(params, {}, jax.random.key(0), batch)[0]


def test_in_other_units_it_is_the_same_model(task, batch):
    drawn = draw(task)
    other = augment_task(task, drawn)
    params, own = task.init(jax.random.key(0))[0], other.init(jax.random.key(0))[0]
    np.testing.assert_allclose(loss_of(other, own, batch), loss_of(task, params, batch), rtol=1e-6)
    np.testing.assert_allclose(
        other.evaluate(own, {}, jax.random.key(0), batch)["loss"],
        task.evaluate(params, {}, jax.random.key(0), batch)["loss"],
        rtol=1e-5,
    )
    gradient = jax.grad(loss_of, argnums=1)(task, params, batch)
    scaled = jax.tree.map(jnp.multiply, gradient, drawn.scales)
    for found, wanted in zip(
        jax.tree.leaves(jax.grad(loss_of, argnums=1)(other, own, batch)), jax.tree.leaves(scaled), strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-7)


def test_scales_lie_in_their_range_and_differ(task):
    scales = np.array(jax.tree.leaves(draw(task).scales))
    assert np.all((scales >= 0.3) & (scales < 3.0))
    assert len(set(scales.tolist())) == len(scales)


@pytest.mark.parametrize("permuted", [("inputs",), ("labels",), ("inputs", "labels")])
def test_pixels_and_labels_are_permuted_and_nothing_else(task, batch, permuted):
    drawn = draw(task, permuted, None)
    other = augment_task(task, drawn)
    assert drawn.scales is None
    image, label = np.asarray(batch["image"]).reshape(5, 64), np.asarray(batch["label"])
    if "inputs" in permuted:
        assert sorted(np.asarray(drawn.pixels)) == list(range(64))
        image = image[:, np.asarray(drawn.pixels)]
    if "labels" in permuted:
        assert sorted(np.asarray(drawn.labels)) == list(range(10))
        label = np.asarray(drawn.labels)[label]
    changed = {"image": image.reshape(5, 8, 8, 1), "label": label}
    params = task.init(jax.random.key(0))[0]
    np.testing.assert_allclose(loss_of(other, params, batch), loss_of(task, params, changed), rtol=1e-6)
    assert abs(loss_of(other, params, batch) - loss_of(task, params, batch)) > 1e-4


def test_nothing_drawn_changes_nothing(task, batch):
    params = task.init(jax.random.key(0))[0]
    other = augment_task(task, Augmentation(None, None, None))
    assert loss_of(other, params, batch) == loss_of(task, params, batch)


def test_an_episode_keeps_its_draw_both_arms_share_it_and_the_next_draws_another():
    config = Config(**SIZES, weight_scale_range=(0.5, 2.0), permute=("inputs", "labels"))
    training = build.meta_training(config)
    state, seen, over = training.state, [], []
    for _ in range(6):
        drawn = state.estimator_states[0].arms.variation.augmentation
        seen.append(
            (np.asarray(jax.tree.leaves(drawn.scales)[0]), np.asarray(drawn.labels))
        )  # [T, 2], [T, 2, C]
        over.append(np.asarray(is_over(state.estimator_states[0].episode)))
        state, metrics = training.outer_step(state, training.datas)
        assert np.isfinite(metrics["meta_loss"])
    assert training.outer_step._cache_size() == 1
    assert np.any(over)
    for i, (scale, labels) in enumerate(seen):
        np.testing.assert_array_equal(scale[:, 0], scale[:, 1])
        np.testing.assert_array_equal(labels[:, 0], labels[:, 1])
        if i + 1 < len(seen):
            np.testing.assert_array_equal(seen[i + 1][0][:, 0] != scale[:, 0], over[i])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"permute": ("pixels",)}, "permute: expected one of inputs, labels, got 'pixels'"),
        (
            {"weight_scale_range": (2.0, 1.0)},
            "weight_scale_range: expected two numbers above 0, the lower first",
        ),
    ],
)
def test_wrong_settings_are_named(wrong, message):
    with pytest.raises(UserError, match=message):
        Config(**SIZES, **wrong)


def test_text_has_nothing_to_permute():
    config = Config(**SIZES | {"task": "transformer_h8_m8_nh1_nl1_pytext_4"}, permute=("labels",))
    with pytest.raises(UserError, match="permute: expected an image data set"):
        build.meta_training(config)
