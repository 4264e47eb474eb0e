"""Federated data on the device and the batches drawn from it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_aggregation.data.federated import to_federated
from learned_aggregation.data.sampling import integers_below, sample_batch, sample_cohort
from learned_aggregation.errors import UserError
from learned_aggregation.types import Split

COUNT = 60
ROWS = [np.arange(0, 5), np.arange(5, 6), np.arange(6, 40), np.arange(40, 60)]
draw_cohort = jax.jit(sample_cohort, static_argnums=(2, 3, 4))


def split():
    """Images that show their own example id."""
    image = np.broadcast_to(np.arange(COUNT, dtype=np.uint8)[:, None, None, None], (COUNT, 2, 2, 1))
    return Split({"image": image, "label": np.arange(COUNT, dtype=np.int32)})


def test_rows_are_padded_cyclically():
    data = to_federated(split(), ROWS)
    assert (data.rows.shape, data.rows.dtype, data.sizes.dtype) == ((4, 34), jnp.int32, jnp.int32)
    assert data.sizes.tolist() == [5, 1, 34, 20]
    assert data.rows[0].tolist() == ([0, 1, 2, 3, 4] * 7)[:34]
    assert set(data.rows[1].tolist()) == {5}
    assert data.examples["image"].dtype == jnp.uint8
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(data))


@pytest.mark.parametrize("num_clients", [3, 4])
def test_clients_are_distinct_and_draw_their_own_examples(num_clients):
    data = to_federated(split(), ROWS)
    for seed in range(20):
        batch, weights, ids = draw_cohort(data, jax.random.key(seed), num_clients, 3, 8)
        assert batch["image"].shape == (num_clients, 3, 8, 2, 2, 1)
        assert batch["image"].dtype == jnp.uint8
        assert np.array_equal(batch["image"][..., 0, 0, 0], batch["label"])
        assert len(set(ids.tolist())) == num_clients
        assert weights.dtype == jnp.float32
        assert weights.tolist() == [len(ROWS[i]) for i in ids]
        for client, labels in zip(ids.tolist(), np.asarray(batch["label"]), strict=True):
            assert set(labels.ravel().tolist()) <= set(ROWS[client].tolist())


def test_every_client_and_every_example_is_drawn_about_equally_often():
    data = to_federated(split(), ROWS)
    draw = jax.jit(jax.vmap(lambda key: sample_cohort(data, key, 2, 2, 10)))
    batch, _, ids = draw(jax.random.split(jax.random.key(0), 2000))
    clients = np.bincount(np.asarray(ids).ravel(), minlength=4)
    assert np.abs(clients / 1000 - 1).max() < 0.15  # 2 of 4 clients in each of 2000 rounds; std 2%
    counts = np.bincount(np.asarray(batch["label"]).ravel(), minlength=COUNT)
    for client, rows in enumerate(ROWS):
        expected = clients[client] * 20 / len(rows)
        assert np.abs(counts[rows] - expected).max() < 6 * np.sqrt(expected)


def test_a_shared_pool_serves_any_number_of_clients():
    data = to_federated(split(), [np.arange(COUNT)])
    batch, weights, ids = draw_cohort(data, jax.random.key(0), 7, 4, 16)
    assert batch["label"].shape == (7, 4, 16)
    assert ids.tolist() == [0] * 7
    assert weights.tolist() == [COUNT] * 7
    labels = np.asarray(batch["label"]).reshape(7, -1)
    assert len({tuple(row) for row in labels}) == 7
    assert len(set(labels.ravel().tolist())) == COUNT


def test_the_key_decides_the_draw():
    data = to_federated(split(), ROWS)
    one, same, other = (draw_cohort(data, jax.random.key(seed), 3, 2, 8)[0]["label"] for seed in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_a_cohort_larger_than_the_population_is_refused_when_traced():
    data = to_federated(split(), ROWS)
    with pytest.raises(UserError, match="num_grads: expected at most the population of 4 clients, got 5"):
        jax.eval_shape(lambda key: sample_cohort(data, key, 5, 1, 1), jax.random.key(0))


def test_sample_batch_draws_from_the_whole_split():
    data = to_federated(split(), ROWS)
    batch = sample_batch(data, jax.random.key(0), 1000)
    assert batch["image"].shape == (1000, 2, 2, 1)
    assert np.array_equal(batch["image"][:, 0, 0, 0], batch["label"])
    assert set(batch["label"].tolist()) == set(range(COUNT))


def test_integers_below_are_the_upper_half_of_the_product():
    """Against Python's integers, limits above 2^16 and 2^24 included."""
    limits = np.array([1, 2, 297, 65_535, 65_536, 65_537, 1_281_167, 2**24 + 1, 2**31 - 1], np.int32)
    key = jax.random.key(5)
    bits = np.asarray(jax.random.bits(key, (500, len(limits)), jnp.uint32)).astype(object)
    expected = bits * limits.astype(object) // 2**32
    np.testing.assert_array_equal(
        integers_below(key, bits.shape, jnp.asarray(limits)), expected.astype(np.int64)
    )


def test_integers_below_are_uniform():
    drawn = np.asarray(integers_below(jax.random.key(0), (100_000,), jnp.int32(7)))
    counts = np.bincount(drawn, minlength=7)
    assert len(counts) == 7
    assert np.abs(counts / 100_000 - 1 / 7).max() < 0.005
