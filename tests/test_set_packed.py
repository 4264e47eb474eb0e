"""`fedlagg-set` on a small model, its tensors side by side in one matrix, against the tensor-by-tensor program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import cohort, random_tree, ranks_tree

from learned_aggregation import get_aggregator
from learned_aggregation.aggregators.learned import set_packed, set_rule
from learned_aggregation.aggregators.learned.set_features import LARGEST

CLIENTS = 5
WEIGHT = jnp.array([1.0, 0.0, 2.0, 0.5, 3.0])


def trained(base):
    aggregator = get_aggregator("fedlagg-set", base=base, hidden_size=8)
    theta = aggregator.init_theta(jax.random.key(0))
    return aggregator, jax.tree.map(jnp.add, theta, random_tree(jax.random.key(1), theta, scale=0.2))


def deltas(number, scale=0.1):
    params = ranks_tree()
    return [random_tree(jax.random.key(10 + r), params, (CLIENTS,), scale=scale) for r in range(number)]


def two_rounds(aggregator, theta, params, found):
    """What is moved and kept after two rounds, each read with weights that no symmetry hides."""
    state = aggregator.init(theta, params)
    for delta in found:
        step, state = aggregator.update(theta, cohort(delta, WEIGHT), state, params)
        params = jax.tree.map(jnp.add, params, step)
    leaves = [leaf for leaf in jax.tree.leaves((params, state)) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return sum(jnp.sum(leaf * jnp.cos(jnp.arange(leaf.size).reshape(leaf.shape))) for leaf in leaves), leaves


def both(monkeypatch, function):
    """Packed and not, without the kernel."""
    monkeypatch.setattr(set_rule, "fits", lambda arrays: False)
    assert set_packed.is_small(jax.tree.leaves(ranks_tree()))
    packed = jax.jit(function)()
    monkeypatch.setattr(set_rule, "is_small", lambda tensors: False)
    return packed, jax.jit(lambda: function())()


def assert_close(ours, oracle, tolerance):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(oracle), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * float(np.abs(b).max(initial=1e-12)))


@pytest.mark.parametrize("base", [pytest.param("nesterov", marks=pytest.mark.slow), "bank"])
def test_steps_and_state_are_those_of_tensor_by_tensor(base, monkeypatch):
    aggregator, theta = trained(base)
    ours, oracle = both(monkeypatch, lambda: two_rounds(aggregator, theta, ranks_tree(), deltas(2))[1])
    assert_close(ours, oracle, 2e-5)


def test_so_are_the_gradients_in_theta_params_and_deltas(monkeypatch):
    aggregator, theta = trained("bank")

    def gradients():
        def value(*arguments):
            return two_rounds(aggregator, *arguments)[0]

        return jax.grad(value, (0, 1, 2))(theta, ranks_tree(), deltas(2))

    ours, oracle = both(monkeypatch, gradients)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(ours))
    assert_close(ours, oracle, 2e-4)


def test_a_client_that_dropped_out_leaves_no_trace(monkeypatch):
    aggregator, theta = trained("mean")
    found = [jax.tree.map(lambda leaf: leaf.at[1].set(jnp.nan), delta) for delta in deltas(2)]
    ours, oracle = both(monkeypatch, lambda: two_rounds(aggregator, theta, ranks_tree(), found)[1])
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in ours)
    assert_close(ours, oracle, 2e-5)


def test_huge_deltas_are_clipped_as_tensor_by_tensor(monkeypatch):
    aggregator, theta = trained("mean")
    huge = deltas(1, scale=1e5 * LARGEST)
    ours, oracle = both(monkeypatch, lambda: two_rounds(aggregator, theta, ranks_tree(), huge)[1])
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in ours)
    assert_close(ours, oracle, 1e-4)


def test_large_and_empty_models_are_not_packed():
    assert not set_packed.is_small([jnp.zeros(set_packed.MOST + 1)])
    assert not set_packed.is_small([jnp.zeros((0, 3)), jnp.zeros(4)])
