"""Feature masking: stored features give the losses and gradients of the images' forward pass, under the same masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_aggregation.errors import UserError
from learned_aggregation.ssl.feature_masking import measure_features, prefix_of, stored_features
from learned_aggregation.ssl.localmim import Options, init_params, make_localmim, measure
from learned_aggregation.tasks.models.vit import VisionTransformer

MODEL = VisionTransformer(patch=4, hidden=8, mlp=16, heads=2, layers=4, num_classes=1)
WEIGHTS = jnp.array([1.0, 2.0, 3.0, 4.0])


def inputs(batch):
    return batch["image"].astype(jnp.float32) / 255


def test_stored_features_give_the_same_losses_and_the_image_is_not_run_again(tmp_path):
    mim = make_localmim("m", MODEL, (8, 8, 3), Options(mask_after=2, decoder_width=8, decoder_heads=2))
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

    def moving(params):
        """The prefix's parameters are constants, as they are where they are frozen."""
        frozen = jax.lax.stop_gradient(prefix_of(mim, params))
        return {**params, **frozen, "layers": {**params["layers"], **frozen["layers"]}}

    @jax.jit
    def both(params):
        def of_images(params):
            return jnp.mean(measure(mim, moving(params), WEIGHTS, key, images)["loss"])

        def of_features(params):
            return jnp.mean(measure_features(mim, params, WEIGHTS, key, on_device[rows], images)["loss"])

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
