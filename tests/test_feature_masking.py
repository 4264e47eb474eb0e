"""Feature masking: stored features give the losses and gradients of the images' forward pass, under the same masks."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_aggregation import build
from learned_aggregation.config.resolve import Config
from learned_aggregation.devices.parallel import job_mesh
from learned_aggregation.errors import UserError
from learned_aggregation.meta_testing.program import Budget, Program, Saving
from learned_aggregation.meta_testing.stored import check_size
from learned_aggregation.ssl.feature_masking import prefix_of, stored_features
from learned_aggregation.ssl.localmim import Options, init_params, kept_blocks, make_localmim, measure
from learned_aggregation.tasks.models.vit import VisionTransformer

MODEL = VisionTransformer(patch=4, hidden=8, mlp=16, heads=2, layers=4, num_classes=1)
WEIGHTS = jnp.array([1.0, 2.0, 3.0, 4.0])


def inputs(batch):
    return batch["image"].astype(jnp.float32) / 255


def test_stored_features_give_the_same_losses_and_the_image_is_not_run_again(tmp_path):
    mim = make_localmim("m", MODEL, (8, 8, 3), Options(mask_after=3, decoder_width=8, decoder_heads=2))
    assert kept_blocks(mim) == [1, 2]  # taps 1, 1, 3, 3; the first block's output is read by the second alone
    params = init_params(mim, jax.random.key(0))
    stored = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), np.uint8)
    on_device = stored_features(mim, params, stored, inputs, chunk=4)
    said = []
    on_disk = [stored_features(mim, params, stored, inputs, tmp_path, 4, said.append) for _ in range(2)]
    np.testing.assert_array_equal(on_disk[0], on_device)
    np.testing.assert_array_equal(on_disk[1], on_device)
    [path] = tmp_path.glob("features_*.safetensors")

    rows, key = jnp.array([3, 7, 1]), jax.random.key(5)
    images = inputs({"image": jnp.asarray(stored)[rows]})

    def with_prefix(params, change):
        """The prefix's parameters changed, without a gradient, as they are where they are frozen."""
        frozen = jax.lax.stop_gradient(jax.tree.map(change, prefix_of(mim, params)))
        return {**params, **frozen, "layers": {**params["layers"], **frozen["layers"]}}

    @jax.jit
    def both(params):
        def of_images(params):
            whole = with_prefix(params, lambda leaf: leaf)
            return jnp.mean(measure(mim, whole, WEIGHTS, key, images)["loss"])

        def of_features(params):
            none = with_prefix(params, lambda leaf: leaf * jnp.nan)
            return jnp.mean(measure(mim, none, WEIGHTS, key, images, on_device[rows])["loss"])

        return jax.value_and_grad(of_images)(params), jax.value_and_grad(of_features)(params)

    (loss, slope), (again, same) = both(params)
    np.testing.assert_allclose(again, loss, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), slope, same)
    assert not any(jnp.any(leaf) for leaf in jax.tree.leaves(same["embed"]))

    # Other weights, or a damaged file, are not taken for these.
    other = {**params, "embed": jax.tree.map(lambda leaf: leaf + 1, params["embed"])}
    assert jnp.any(stored_features(mim, other, stored, inputs, tmp_path, 4, said.append) != on_device)
    assert len(list(tmp_path.glob("features_*.safetensors"))) == 2
    path.write_bytes(path.read_bytes()[:-7])
    np.testing.assert_array_equal(
        stored_features(mim, params, stored, inputs, tmp_path, 4, said.append), on_device
    )
    assert len(said) == 1


def test_without_a_prefix_there_is_nothing_to_store():
    mim = make_localmim("m", MODEL, (8, 8, 3), Options(decoder_width=8))
    with pytest.raises(UserError, match="mask_after"):
        prefix_of(mim, {})


TASK = "vit_p4_h8_m8_nh2_nl2_digits_8"
FREEZING = {"t0": 0.5, "power": "linear", "phases": 2, "store_features": True}


def config_of(mask_after=1, **more):
    settings = {
        "objective": "localmim",
        "objective_options": {
            "mask_after": mask_after,
            "target": "pixels",
            "decoder_width": 8,
            "decoder_heads": 2,
        },
        "optimizer": "fedavg",
        "num_grads": 2,
        "num_local_steps": 1,
        "local_batch_size": 4,
        "local_learning_rate": 0.1,
        "num_inner_steps": 8,
        "freezing": FREEZING,
    }
    return Config(run_type="benchmark", task=TASK, **(settings | more))


def made(config):
    return build.meta_test(config, build.load_task(config, TASK), (), ())


@pytest.mark.slow
def test_a_run_goes_on_from_stored_features_with_equal_losses_and_is_resumed_bit_for_bit():
    config = config_of(freezing=FREEZING | {"phases": 1})
    setting, shared = made(config)
    [phase] = setting.later
    budget, mesh = Budget(8, 8), job_mesh(1, 1)
    stores = Program(setting, budget, mesh)
    plain = Program(setting._replace(later=(phase._replace(stored=None),)), budget, mesh)
    rates = {name: np.full(2, rate) for name, rate in build.rates_of(config).items()}
    kept = []

    def save(saved):
        kept.append(jax.tree.map(jnp.array, saved)._replace(done=saved.done))

    def run(program, start=None):
        """From the beginning, saved on the way, or from where it was saved first."""
        saving = Saving(
            lambda shapes: start and jax.tree.map(jnp.array, start)._replace(done=start.done), save, bool
        )
        found = program.run(shared, rates, np.arange(2), saving=saving)
        assert found is not None
        return found.train_loss

    whole = run(stores)
    boundary = kept[0]
    assert boundary.done == phase.start
    resumed, images = run(stores, boundary), run(plain, boundary)
    np.testing.assert_array_equal(resumed, whole)
    np.testing.assert_allclose(images, whole, rtol=1e-5)

    # They are what the losses are of, and each seed has its own.
    train: Any = shared.train
    [(stored, compute)] = stores._storing.items()
    [found] = compute(train, boundary.state).values()
    assert found.shape == (2, len(train.examples["image"]), 1, 5, 8)
    assert np.any(found[0] != found[1])
    stores._storing[stored] = lambda data, servers: jax.tree.map(jnp.zeros_like, compute(data, servers))
    without = run(stores, boundary)
    np.testing.assert_array_equal(without[:, : phase.start], whole[:, : phase.start])
    assert np.all(without[:, phase.start :] != whole[:, phase.start :])

    with pytest.raises(
        UserError, match=r"at most device_data_mb, 0, .* got 1 MB: 2 runs at once x \d+ examples x 0.2 KB"
    ):
        check_size(stored._replace(limit_mb=0), mesh, train, boundary.state)


def test_features_are_stored_from_the_phase_on_in_which_all_that_they_depend_on_is_frozen():
    found = build.frozen_changes(config_of(), build.load_task(config_of(), TASK))
    assert [change.frozen for change in found] == [0, 1, 2]
    first, second = made(config_of())[0].later
    assert first.stored is None
    assert second.stored is not None
    assert not any(p.stored for p in made(config_of(freezing=FREEZING | {"store_features": False}))[0].later)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"mask_after": 0}, "expected a task whose first blocks see whole images"),
        (
            {"freezing": FREEZING | {"t0": 1.0}},
            "expected a run in which the embedding and the first 1 blocks freeze before its last",
        ),
        (
            {"stream": True, "stream_window": 64, "stream_fresh": 32},
            "expected data that lies on the device whole",
        ),
        (
            {"freezing": FREEZING | {"tokens": False}},
            "expected False with tokens=False, which go on moving, got True",
        ),
    ],
)
def test_a_run_without_such_features_is_refused_before_it_starts(changed, message):
    with pytest.raises(UserError, match=f"store_features: {message}"):
        made(config_of(**changed))
