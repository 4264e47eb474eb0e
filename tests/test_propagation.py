"""The probe against a loop over places, and what it must do on frames that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_aggregation.ssl.propagation import (
    Propagation,
    patch_labels,
    pixel_masks,
    propagate,
    propagated_masks,
)


def slowly(features, first, how):
    frames, height, width, _ = features.shape
    if how.centred:
        features = features - features.mean((1, 2), keepdims=True)
    features = features / np.linalg.norm(features, axis=-1, keepdims=True)
    maps = [first]
    for t in range(1, frames):
        context = [0, *range(max(1, t - how.queue), t)]
        found = np.zeros_like(first)
        for y in range(height):
            for x in range(width):
                seen = [
                    (features[t, y, x] @ features[s, v, u], s, v, u)
                    for s in context
                    for v in range(height)
                    for u in range(width)
                    if max(abs(v - y), abs(u - x)) <= how.radius
                ]
                best = sorted(seen, key=lambda one: -one[0])[: how.top_k]
                weights = np.exp(np.array([one[0] for one in best]) / how.temperature)
                labels = np.array([maps[s][v, u] for _, s, v, u in best])
                found[y, x] = weights @ labels / weights.sum()
        maps.append(found)
    return np.stack(maps)


@pytest.mark.parametrize(
    "how",
    [
        Propagation(3, 2.0, 0.1, 2, True),
        Propagation(7, 1.0, 0.1, 2, True),
        Propagation(4, 9.0, 0.3, 5, False),
    ],
)
def test_it_is_the_loop_over_places(how):
    rng = np.random.default_rng(1)
    features = rng.standard_normal((5, 4, 5, 6)).astype(np.float32)
    first = rng.dirichlet(np.ones(3), (4, 5)).astype(np.float32)
    fast = jax.jit(lambda f, m: propagate(f, m, how))(features, first)
    np.testing.assert_allclose(fast, slowly(features, first, how), atol=2e-5)


def test_a_moving_object_is_followed():
    """Features that move with the object: the mask moves with it, further than one radius in all."""
    rng = np.random.default_rng(0)
    pattern = rng.standard_normal((2, 2, 16)).astype(np.float32)
    ground, noise = rng.standard_normal(16), 0.1 * rng.standard_normal((6, 8, 8, 16))
    features = (ground + noise).astype(np.float32)
    truth = np.zeros((6, 8, 8), np.uint8)
    for t in range(6):
        features[t, 3:5, t : t + 2] = pattern
        truth[t, 3:5, t : t + 2] = 1
    how = Propagation(top_k=1, radius=1.0, centred=False)
    one = jax.jit(lambda f, m: propagated_masks(f, m, 2, how))
    np.testing.assert_array_equal(one(features, truth[0]), truth)


def test_clips_are_batched():
    features = jax.random.normal(jax.random.key(0), (2, 3, 4, 4, 5))
    first = jax.nn.one_hot(jnp.arange(32).reshape(2, 4, 4) % 3, 3)
    how = Propagation(top_k=2)
    both = jax.vmap(lambda f, m: propagate(f, m, how))(features, first)
    np.testing.assert_allclose(both[1], propagate(features[1], first[1], how), atol=1e-5)


def test_labels_go_to_patches_and_back():
    mask = np.zeros((8, 8), np.int32)
    mask[:4, :6] = 1
    soft = patch_labels(jnp.asarray(mask), 2, 4, 4)
    np.testing.assert_allclose(soft[..., 1].sum() * 4, 24)
    np.testing.assert_array_equal(pixel_masks(soft[None], 8, 8)[0], mask)
