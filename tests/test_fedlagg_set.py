"""`fedlagg-set`: symmetric in the clients, any number of them, its base until it is trained, bounded."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import cohort, random_tree
from hypothesis import given, settings
from hypothesis import strategies as st

from learned_aggregation import get_aggregator
from learned_aggregation.aggregators.learned import fast, set_rule
from learned_aggregation.aggregators.learned.set_rule import TRUST
from learned_aggregation.errors import UserError

SHAPES = [(), (9,), (0, 3), (50, 1), (7, 7), (3, 2, 4, 8)]


def trained(aggregator, scale=0.2):
    """A theta far from the start."""
    theta = aggregator.init_theta(jax.random.key(0))
    return jax.tree.map(jnp.add, theta, random_tree(jax.random.key(1), theta, scale=scale))


def rounds(aggregator, theta, params, deltas, weights, unit=1.0):
    """Steps of successive rounds, params moving along."""
    state, steps = aggregator.init(theta, params), []
    update = jax.jit(
        lambda *arguments: aggregator.update(*arguments)
    )  # a function that JAX has no program of yet
    for delta, weight in zip(deltas, weights, strict=True):
        step, state = update(theta, cohort(jax.tree.map(lambda x: unit * x, delta), weight), state, params)
        params = jax.tree.map(jnp.add, params, step)
        steps.append(step)
    return steps


def case(clients=5, count=3, shapes=SHAPES):
    params = random_tree(jax.random.key(2), [jnp.zeros(shape) for shape in shapes], scale=0.1)
    deltas = [random_tree(jax.random.key(10 + t), params, (clients,), scale=0.02) for t in range(count)]
    return params, deltas, [jnp.arange(1.0, clients + 1.0)] * count


def assert_close(ours, expected, tolerance=1e-5):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max() if b.size else 0)


@given(order=st.permutations(range(5)))
@settings(max_examples=10, deadline=None)
def test_the_order_of_the_clients_does_not_matter(order):
    aggregator = get_aggregator("fedlagg-set", hidden_size=4)
    params, deltas, weights = case()
    order = jnp.array(order)
    moved = [jax.tree.map(lambda x: x[order], delta) for delta in deltas]
    shuffled = rounds(aggregator, trained(aggregator), params, moved, [w[order] for w in weights])
    assert_close(shuffled, rounds(aggregator, trained(aggregator), params, deltas, weights), 1e-4)


def test_one_theta_serves_any_number_of_clients_and_twins_count_as_one():
    """Every client twice with half the weight is the same cohort but for its effective number."""
    aggregator = get_aggregator("fedlagg-set", hidden_size=4)
    theta = trained(aggregator)
    theta["nn"]["w0"] = theta["nn"]["w0"].at[jnp.array([11, 17])].set(0.0)  # what reads the number of clients
    params, deltas, weights = case(clients=3)
    twice = [jax.tree.map(lambda x: jnp.concatenate([x, x]), delta) for delta in deltas]
    doubled = rounds(aggregator, theta, params, twice, [jnp.concatenate([w, w]) / 2 for w in weights])
    assert_close(doubled, rounds(aggregator, theta, params, deltas, weights), 1e-4)


def test_a_client_of_weight_zero_leaves_no_trace():
    aggregator = get_aggregator("fedlagg-set", hidden_size=4)
    params, deltas, weights = case(clients=3)
    more = [jax.tree.map(lambda x: jnp.concatenate([x, x[:1] + jnp.nan]), delta) for delta in deltas]
    with_absent = rounds(aggregator, trained(aggregator), params, more, [jnp.append(w, 0.0) for w in weights])
    assert_close(with_absent, rounds(aggregator, trained(aggregator), params, deltas, weights))


@pytest.mark.parametrize("base", ["mean", "momentum", "nesterov"])
def test_untrained_it_is_its_base(base):
    """Rates so small that the trust bound is not reached."""
    aggregator = get_aggregator("fedlagg-set", hidden_size=4, base=base, base_learning_rate=0.5)
    classical = {
        "mean": get_aggregator("fedavgm", learning_rate=0.5, beta=0.0),
        "momentum": get_aggregator("fedavgm", learning_rate=0.5, beta=0.6),
        "nesterov": get_aggregator("diloco", learning_rate=0.5, beta=0.6),
    }[base]
    params, deltas, weights = case()
    ours = rounds(aggregator, aggregator.init_theta(jax.random.key(0)), params, deltas, weights)
    assert_close(ours, rounds(classical, (), params, deltas, weights))


def test_units_do_not_matter():
    """Params and deltas a thousand times larger: steps a thousand times larger."""
    aggregator = get_aggregator("fedlagg-set", hidden_size=4)
    params, deltas, weights = case(shapes=[(9,), (7, 8)])
    steps = rounds(aggregator, trained(aggregator), params, deltas, weights)
    larger = jax.tree.map(lambda x: 1000.0 * x, params)
    scaled = rounds(aggregator, trained(aggregator), larger, deltas, weights, unit=1000.0)
    assert_close(scaled, jax.tree.map(lambda x: 1000.0 * x, steps), 1e-3)


def test_no_theta_makes_a_step_longer_than_the_bound():
    """Also where all clients agree for many rounds and the gate is wide open."""
    aggregator = get_aggregator("fedlagg-set", hidden_size=4, base_learning_rate=5.0)
    theta = aggregator.init_theta(jax.random.key(0))
    theta["nn"]["b2"] = jnp.array([100.0, -100.0])
    params, deltas, weights = case(shapes=[(9,)])
    step = rounds(aggregator, theta, params, deltas[:1] * 20, weights[:1] * 20)[-1]
    size = jnp.mean(jnp.average(deltas[0][0] ** 2, axis=0, weights=weights[0]))
    np.testing.assert_allclose(jnp.sqrt(jnp.mean(step[0] ** 2)), TRUST * jnp.sqrt(size), rtol=1e-4)


def test_blocks_change_nothing(monkeypatch):
    """Of the program that takes one tensor after the other; the other two have no blocks of this size."""
    for other in ("fits", "is_small"):
        monkeypatch.setattr(set_rule, other, lambda tensors: False)
    aggregator = get_aggregator("fedlagg-set", hidden_size=4)
    params, deltas, weights = case(count=2)
    whole = rounds(aggregator, trained(aggregator), params, deltas, weights)
    monkeypatch.setattr(fast, "BLOCK", 16)
    assert_close(rounds(aggregator, trained(aggregator), params, deltas, weights), whole)


def test_gradients_are_finite_also_where_deltas_are_zero():
    aggregator = get_aggregator("fedlagg-set", hidden_size=4)
    params, deltas, weights = case(count=2, shapes=[(9,), (3, 4)])
    deltas = [jax.tree.map(lambda x: x.at[:, 0].set(0.0), delta) for delta in deltas]

    def total(theta):
        steps = rounds(aggregator, theta, params, deltas, weights)
        return sum(jnp.sum(x * x) for x in jax.tree.leaves(steps))

    gradient = jax.grad(total)(trained(aggregator))
    assert all(jnp.all(jnp.isfinite(x)) and jnp.any(x != 0) for x in jax.tree.leaves(gradient))


def test_a_base_is_needed():
    with pytest.raises(UserError, match="expected a base to correct, got 'none'"):
        get_aggregator("fedlagg-set", base="none")
