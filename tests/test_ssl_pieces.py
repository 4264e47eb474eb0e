"""What the self-supervised tasks share: masks, positions, blocks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from learned_aggregation.errors import UserError
from learned_aggregation.ssl.blocks import attention, block, cross_block, init_block, init_cross_block
from learned_aggregation.ssl.masks import (
    cut_patches,
    draw_mask,
    join_patches,
    restore_order,
    take_patches,
    visible_count,
)
from learned_aggregation.ssl.positions import grid_positions
from learned_aggregation.tasks.transformer_layers import Block


def test_patches_of_an_image_join_to_it_again():
    image = jax.random.normal(jax.random.key(0), (2, 6, 12, 3))
    patches = cut_patches(image, 3)
    assert patches.shape == (2, 8, 27)
    np.testing.assert_array_equal(join_patches(patches, 2, 4, 3), image)


def test_each_example_has_a_uniform_keep_set():
    masks = jax.jit(lambda key: draw_mask(key, 4000, 8, 0.75))(jax.random.key(0))
    assert masks.visible.shape == (4000, 2)
    np.testing.assert_array_equal(masks.hidden.sum(1), 6)
    # Each of the 56 ordered pairs at its rate: 4000/56 = 71, standard deviation 8.4.
    pairs = np.bincount(np.asarray(masks.visible[:, 0] * 8 + masks.visible[:, 1]), minlength=64)
    counts = pairs[np.arange(64) // 8 != np.arange(64) % 8]
    assert pairs.sum() == counts.sum() == 4000
    assert counts.min() > 35
    assert counts.max() < 110


def test_restored_tokens_stand_in_their_places():
    tokens = jax.random.normal(jax.random.key(0), (3, 10, 4))
    mask = draw_mask(jax.random.key(1), 3, 10, 0.6)
    whole = restore_order(take_patches(tokens, mask.visible), jnp.full(4, 7.0), mask)
    np.testing.assert_array_equal(whole, jnp.where(mask.hidden[..., None], 7.0, tokens))


def test_a_mask_that_shows_nothing_is_refused():
    assert visible_count(100, 0.9) == 10
    for ratio in (0.0, 1.0, 0.99):
        with pytest.raises(UserError, match="mask ratio"):
            visible_count(16, ratio)


def test_positions_are_those_of_mae():
    table = grid_positions(4, 5, 16)
    row, column = 2, 3
    rates = 1.0 / 10000 ** (np.arange(4) / 4.0)
    expected = np.concatenate([f(p * rates) for p in (column, row) for f in (np.sin, np.cos)])
    np.testing.assert_allclose(table[row * 5 + column], expected, rtol=1e-6)
    with pytest.raises(UserError, match="width"):
        grid_positions(2, 2, 6)


def test_a_block_is_that_of_the_vision_transformer():
    x = jax.random.normal(jax.random.key(0), (2, 5, 8))
    params = init_block(jax.random.key(1), 8, 12)
    params = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(jax.random.key(2), p.shape), params)
    flax_block = Block(2, 4, 12, False, nn.initializers.xavier_uniform())
    shapes = jax.eval_shape(lambda: flax_block.init(jax.random.key(0), x)["params"])
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(lambda leaf: leaf.shape, shapes)

    def loss(f):
        return jax.jit(jax.value_and_grad(lambda p: jnp.sum(jnp.sin(f(p)))))(params)

    (ours, ours_slope), (flax, flax_slope) = (
        loss(lambda p: block(p, x, 2)),
        loss(lambda p: flax_block.apply({"params": p}, x)),
    )
    np.testing.assert_allclose(ours, flax, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), ours_slope, flax_slope)


def test_cross_attention_reads_its_memory_only():
    params = init_cross_block(jax.random.key(0), 8, 12)
    x, memory = (jax.random.normal(jax.random.key(i), (2, n, 8)) for i, n in ((1, 5), (2, 3)))
    got = attention(params["cross"], x, memory, 2)
    with_jax = {}
    for name, of in (("query", x), ("key", memory), ("value", memory)):
        with_jax[name] = (of @ params["cross"][name]["kernel"]).reshape(2, -1, 2, 4)
    mixed = jax.nn.dot_product_attention(**with_jax).reshape(2, 5, 8)
    np.testing.assert_allclose(got, mixed @ params["cross"]["out"]["kernel"], atol=2e-6)

    def loss(memory):
        return jnp.sum(cross_block(params, x, memory, 2)[0] ** 2)

    slope = jax.jit(jax.grad(loss))(memory)
    assert float(jnp.abs(slope[0]).min()) > 0
    assert float(jnp.abs(slope[1]).max()) == 0
