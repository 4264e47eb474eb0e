"""The fast update of the learned aggregators against the plain one, its oracle."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import cohort, random_tree
from hypothesis import given, settings
from hypothesis import strategies as st

from learned_aggregation.aggregators.learned import fast, rules
from learned_aggregation.aggregators.learned.fast_blocks import (
    loops,
    outer_product,
    outer_sum,
    view_of,
    view_without,
)
from learned_aggregation.aggregators.learned.options import LearnedOptions

K = 3
SIZES = {"num_grads": K, "hidden_size": 4}
WEIGHTS = jnp.array([1.0, 5.0, 2.0])
# Ranks 0 to 5; sizes 0 and 1; equal dimensions (argsort ties); the factored ones first, last, apart, adjacent.
SHAPES = [(), (9,), (1, 1, 1), (0, 3), (50, 1), (7, 7), (3, 41), (3, 3, 5, 8), (9, 4, 2, 8), (8, 5, 2, 2)]
SHAPES += [(5, 2, 5), (2, 3, 1, 4, 3), (40,)]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """So that small tensors are walked in several blocks, with and without a rest."""
    monkeypatch.setattr(fast, "BLOCK", 16)
    monkeypatch.setattr("learned_aggregation.kernels.step.available", lambda: False)


def pair(family, inputs, base="none"):
    """(fast, plain) aggregators."""
    made = {
        "adafac": (fast.fast_adafac, rules.adafac_family),
        "plain": (fast.fast_plain, rules.plain_family),
    }
    return [make("a", inputs, LearnedOptions(**SIZES, base=base)) for make in made[family]]


def some_theta(aggregator):
    """Initial theta with every leaf moved, so that biases and decays count."""
    theta = aggregator.init_theta(jax.random.key(0))
    return jax.tree.map(lambda x, e: x + 0.01 * e, theta, random_tree(jax.random.key(1), theta))


def flat_state(family, state):
    """The plain version's state in the layout of the fast one."""
    if family == "plain":
        return state
    return state._replace(accumulators=tuple(map(fast.flattened, state.accumulators)))


def assert_close(ours, oracle, tolerance=1e-5):
    """Each leaf to `tolerance` of its own largest value."""
    assert jax.tree.structure(ours) == jax.tree.structure(oracle)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(oracle), strict=True):
        assert a.shape == b.shape
        if a.size:
            np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


def assert_agree(family, inputs, shapes, rounds=3, base="none"):
    ours, oracle = pair(family, inputs, base)
    theta = some_theta(oracle)
    params = random_tree(jax.random.key(2), [jnp.zeros(shape) for shape in shapes], scale=0.1)
    states = [aggregator.init(theta, params) for aggregator in (ours, oracle)]
    updates = [jax.jit(aggregator.update) for aggregator in (ours, oracle)]
    for t in range(rounds):
        delta = random_tree(jax.random.key(10 + t), params, (K,), scale=0.02)
        results = [u(theta, cohort(delta, WEIGHTS), s, params) for u, s in zip(updates, states, strict=True)]
        (step, _), (expected, _) = results
        states = [state for _, state in results]
        assert_close(step, expected)
        assert_close(states[0], flat_state(family, states[1]))


@pytest.mark.parametrize(("inputs", "shapes"), [("all", SHAPES), ("mean", [(9,), (3, 41)])])
def test_adafac_agrees_with_the_plain_update(inputs, shapes):
    assert_agree("adafac", inputs, shapes)


@pytest.mark.parametrize("family", ["adafac", "plain"])
def test_with_a_base_they_agree_with_the_plain_update(family):
    assert_agree(family, "all", [(), (9,), (0, 3), (7, 9)], base="nesterov")


@pytest.mark.parametrize("inputs", ["mean", "all", "mean+all"])
def test_the_rules_without_accumulators_agree_with_the_plain_update(inputs):
    assert_agree("plain", inputs, [(), (9,), (0, 3), (50, 1)])


@settings(max_examples=6, deadline=None)
@given(st.lists(st.integers(0, 7), max_size=5).map(tuple), st.integers(1, 60))
def test_adafac_agrees_on_any_tensor(shape, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast, "BLOCK", block)
        assert_agree("adafac", "all", [shape], rounds=2)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 9), max_size=5).map(tuple), st.integers(1, 200))
def test_blocks_cover_every_parameter_once(shape, limit):
    """In few loops, within the limit, and as boxes that are contiguous."""
    view = view_of(shape)
    places = np.arange(np.prod(view)).reshape(view)
    seen, found = [], list(loops(view, limit))
    assert len(found) <= 2
    for starts, box in found:
        assert np.prod(box) <= limit
        for start in starts:
            seen.append(places[tuple(slice(i, i + n) for i, n in zip(start, box, strict=True))].ravel())
            np.testing.assert_array_equal(np.diff(seen[-1]), 1)
    np.testing.assert_array_equal(np.sort(np.concatenate(seen)), places.ravel())


@pytest.mark.parametrize("shape", [(4, 6), (3, 6, 4), (5, 2, 6), (6, 5, 2), (3, 5, 2, 6, 2)])
def test_outer_terms_are_the_broadcast_ones_exactly(shape):
    p, q = (view_without(shape, axis) for axis in sorted(np.argsort(shape)[-2:])[::-1])
    along_p, along_q = (jax.random.normal(jax.random.key(i), (3, *view)) for i, view in enumerate((p, q)))
    np.testing.assert_array_equal(outer_sum(along_p, along_q), (along_p + along_q).reshape(3, -1))
    np.testing.assert_array_equal(outer_product(along_p, along_q), (along_p * along_q).reshape(3, -1))


def two_rounds(aggregator, params):
    """(theta, delta) -> a number that depends on every step and accumulator of two rounds."""

    def score(theta, delta):
        state, total = aggregator.init(theta, params), 0.0
        for _ in range(2):
            step, state = aggregator.update(theta, cohort(delta, WEIGHTS), state, params)
            total += sum(jnp.sum(jnp.sin(1e3 * leaf)) for leaf in jax.tree.leaves(step))
        return total

    return score


def test_derivatives_of_both_modes_agree_with_the_plain_update():
    ours, oracle = pair("adafac", "all")
    theta = some_theta(oracle)
    params = random_tree(jax.random.key(2), {"w": jnp.zeros((5, 8)), "b": jnp.zeros(20)}, scale=0.1)
    delta = random_tree(jax.random.key(3), params, (K,), scale=0.02)
    gradients = [
        jax.jit(jax.grad(two_rounds(a, params), argnums=(0, 1)))(theta, delta) for a in (ours, oracle)
    ]
    assert_close(*gradients, tolerance=1e-4)
    direction = random_tree(jax.random.key(4), (theta, delta))
    slope = jax.jit(lambda d: jax.jvp(two_rounds(ours, params), (theta, delta), d)[1])(direction)
    products = [jnp.sum(g * d) for g, d in zip(*map(jax.tree.leaves, (gradients[1], direction)), strict=True)]
    np.testing.assert_allclose(slope, sum(products), atol=1e-4 * sum(map(abs, products)))


def test_mapped_over_problems_and_arms():
    ours, oracle = pair("adafac", "all")
    theta = random_tree(jax.random.key(0), some_theta(oracle), (2,), scale=0.1)
    params = random_tree(jax.random.key(2), {"w": jnp.zeros((5, 8))}, (2, 2), scale=0.1)
    delta = jax.tree.map(lambda p: 0.1 * jnp.stack([p, 2 * p, -p], axis=2), params)

    def step(aggregator):
        def one(theta, delta, params):
            return aggregator.update(theta, cohort(delta, WEIGHTS), aggregator.init(theta, params), params)[0]

        return jax.jit(jax.vmap(jax.vmap(one), in_axes=(None, 0, 0)))(theta, delta, params)

    assert_close(step(ours), step(oracle))


@pytest.mark.parametrize("shape", [(1000, 1000), (1_000_000,)])
def test_memory_is_bounded_by_the_block_and_not_by_the_features(shape, monkeypatch):
    """The features of a million parameters at once would be 92 MB, the hidden units 128 MB."""
    monkeypatch.undo()
    aggregator = fast.fast_adafac("a", "all", LearnedOptions(num_grads=8, hidden_size=32))
    params = jax.ShapeDtypeStruct(shape, jnp.float32)
    arguments = jax.eval_shape(
        lambda key, w: (
            aggregator.init_theta(key),
            cohort(jnp.zeros((8, *shape))),
            aggregator.init((), w),
            w,
        ),
        jax.random.key(0),
        params,
    )
    memory = jax.jit(aggregator.update).lower(*arguments).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 30e6
