"""The bank of classical steps that fedlagg-set may have for a base."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_aggregation.aggregators import get_aggregator
from learned_aggregation.aggregators.learned import bank, set_rule
from learned_aggregation.aggregators.learned.set_features import MOMENTUM_DECAYS
from learned_aggregation.errors import UserError
from learned_aggregation.types import ClientUpdate

PARAMS = {"w": jnp.full((5, 3), 0.3), "b": jnp.zeros(3), "s": jnp.float32(1.0)}


def rule():
    aggregator = get_aggregator("fedlagg-set", base="bank", hidden_size=8)
    return aggregator, aggregator.init_theta(jax.random.key(0))


def deltas(seed: int, clients: int = 4, size: float = 0.1):
    keys = jax.random.split(jax.random.key(seed), 3)
    leaves, tree = jax.tree.flatten(PARAMS)
    drawn = [size * jax.random.normal(k, (clients, *x.shape)) for k, x in zip(keys, leaves, strict=True)]
    return tree.unflatten(drawn)


def at(tree, client):
    return jax.tree.map(lambda x: x[client], tree)


def update(delta, weight=None):
    clients = jax.tree.leaves(delta)[0].shape[0]
    return ClientUpdate(delta, (), jnp.zeros(clients), jnp.ones(clients) if weight is None else weight)


def trained(theta, seed=1, size=0.5):
    leaves, tree = jax.tree.flatten(theta)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    moved = [x + size * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
    return tree.unflatten(moved)


def normalised(momentum, second):
    n = momentum / np.sqrt(second)
    return n * np.sqrt(np.mean(momentum**2) / np.mean(n**2))


def test_an_untrained_bank_takes_the_steps_of_its_start():
    aggregator, theta = rule()
    state = aggregator.init(theta, PARAMS)
    velocities, second = np.zeros((3, 15)), np.zeros(15)
    for r in range(4):
        delta = deltas(r)
        step, state = aggregator.update(theta, update(delta), state, PARAMS)
        g = np.mean(np.asarray(delta["w"]), axis=0).reshape(-1)
        velocities = np.array(MOMENTUM_DECAYS)[:, None] * velocities + g
        second = 0.95 * second + 0.05 * g * g
        c = bank.START
        slow = velocities[1] * (1 - MOMENTUM_DECAYS[1])
        expected = c[0] * g + np.array(c[1:4]) @ velocities + c[4] * normalised(slow, second)
        np.testing.assert_allclose(np.asarray(step["w"]).reshape(-1), expected, rtol=2e-5, atol=1e-6)


def test_weights_stay_within_the_reach_of_their_start():
    for seed in range(5):
        theta = trained({"x": bank.init_weighing(jax.random.key(seed))}, seed, size=30.0)["x"]
        context = jax.random.normal(jax.random.key(seed), (3, bank.NUM_CONTEXT))
        c, opened = bank.coefficients(theta, context)
        assert np.all((opened >= 0) & (opened <= 1))
        ratio = np.log(np.asarray(c) / np.array(bank.START))
        assert np.all(np.abs(ratio) <= bank.REACH * (1 + 1e-6))
        assert np.max(np.abs(ratio)) > 0.5 * bank.REACH  # such weights reach for it


def test_steps_have_the_unit_of_the_deltas():
    """Deltas and params in another unit: the same steps in that unit, so that no scale is special."""
    aggregator, theta = rule()
    theta = trained(theta)
    unit = 2.0**7
    state, state_in_unit = aggregator.init(theta, PARAMS), aggregator.init(theta, PARAMS)
    for r in range(3):
        delta = deltas(r)
        step, state = aggregator.update(theta, update(delta), state, PARAMS)
        scaled = jax.tree.map(lambda x: unit * x, (delta, PARAMS))
        other, state_in_unit = aggregator.update(theta, update(scaled[0]), state_in_unit, scaled[1])
        for a, b in zip(jax.tree.leaves(step), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(unit * np.asarray(a), np.asarray(b), rtol=1e-4, atol=1e-6 * unit)


def remembered(vectors):
    """The momenta [3, N] after each of these mean deltas [N]."""
    momentum, decay = np.zeros((3, len(vectors[0]))), np.array(MOMENTUM_DECAYS)[:, None]
    for g in vectors:
        momentum = decay * momentum + (1.0 - decay) * g
        yield momentum


def signals_after(vectors):
    before, after = ([np.zeros((3, len(vectors[0]))), *remembered(vectors)][i] for i in (-2, -1))
    g, sums = vectors[-1], lambda x: jnp.float32(np.sum(x * x, axis=-1))[None]
    clients = jnp.float32([np.sum(g * g)])
    squares = bank.Squares(sums(before), sums(after), sums(g), clients, clients, clients)
    return before, np.asarray(bank.signals(squares))[0]


@pytest.mark.parametrize("rounds", [2, 5])
def test_cosines_are_those_of_the_vectors(rounds):
    """They are found from sums of squares alone."""
    vectors = list(np.random.default_rng(rounds).normal(size=(rounds, 40)))
    before, found = signals_after(vectors)
    expected = before @ vectors[-1] / np.linalg.norm(before, axis=1) / np.linalg.norm(vectors[-1])
    np.testing.assert_allclose(found[:3], expected, atol=1e-4)


def test_signals_tell_rounds_that_agree_from_rounds_that_cancel():
    g = np.random.default_rng(0).normal(size=40)
    assert np.all(signals_after([g] * 4)[1][:3] > 0.99)
    assert signals_after([g, -g, g, -g])[1][0] < -0.9


def test_in_the_first_round_there_is_nothing_to_compare_with():
    np.testing.assert_array_equal(signals_after([np.random.default_rng(0).normal(size=40)])[1][:3], 0.0)


def test_clients_one_at_a_time_give_the_same_steps():
    aggregator, theta = rule()
    theta, weight = trained(theta, size=0.2), jnp.array([1.0, 0.0, 2.0, 0.5])
    state = other = aggregator.init(theta, PARAMS)
    for r in range(3):
        delta = deltas(r)
        step, state = aggregator.update(theta, update(delta, weight), state, PARAMS)
        partial = aggregator.sums.start(PARAMS)
        for client in (2, 0, 3, 1):
            partial = aggregator.sums.add(partial, at(delta, client), weight[client])
        found, other = aggregator.sums.finish(theta, partial, other, PARAMS)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(step), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("packed", [True, False])
def test_derivatives_are_finite_where_some_deltas_are_tiny(packed, monkeypatch):
    """A second moment of 1e-17 and less beside others of 1e-4: its reciprocal's square is infinite in float32."""
    monkeypatch.setattr(set_rule, "is_small", lambda tensors: packed)
    aggregator, theta = rule()
    params = {"w": jnp.full(20, 0.1)}

    def moved(size):
        state, total = aggregator.init(theta, params), 0.0
        for r in range(2):
            delta = {"w": size * jax.random.normal(jax.random.key(r), (4, 20))}
            step, state = aggregator.update(theta, update(delta), state, params)
            total += jnp.sum(step["w"] ** 2)
        return total

    found = jax.jit(jax.grad(moved))(jnp.where(jnp.arange(20) < 10, 1e-8, 1e-2))
    assert np.all(np.isfinite(found))
    assert np.all(np.abs(found[10:]) > 0)


def test_closed_it_takes_the_steps_of_the_bank_alone():
    aggregator, theta = rule()
    theta = trained(theta, size=0.2)
    shut = theta | {"bank": theta["bank"] | {"b1": theta["bank"]["b1"].at[-1].set(-100.0)}}
    network = theta["nn"] | {name: jnp.zeros_like(theta["nn"][name]) for name in ("w2", "b2")}
    alone, closed, found = (
        aggregator.update(one, update(deltas(0)), aggregator.init(one, PARAMS), PARAMS)[0]["w"]
        for one in (theta | {"nn": network}, shut, theta)
    )
    np.testing.assert_allclose(closed, alone, rtol=1e-5)
    assert np.max(np.abs(found - alone)) > 0.01 * np.max(np.abs(alone))


def test_its_rate_multiplies_every_step():
    aggregator, theta = rule()
    half = get_aggregator("fedlagg-set", base="bank", hidden_size=8, base_learning_rate=0.5)
    whole, halved = (
        a.update(theta, update(deltas(0)), a.init(theta, PARAMS), PARAMS)[0] for a in (aggregator, half)
    )
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(halved), strict=True):
        np.testing.assert_allclose(0.5 * np.asarray(a), b, rtol=1e-5)


@pytest.mark.parametrize("size", [3, 3000])
def test_strength_multiplies_what_the_networks_say(size):
    """Large tensors go through the kernel where there is one, small ones through XLA; a traced number is the same."""
    params = {"w": jnp.full((size, 5), 0.3)}
    delta = {"w": 0.1 * jax.random.normal(jax.random.key(0), (4, size, 5))}

    def step(theta, **options):
        aggregator = get_aggregator("fedlagg-set", base="bank", hidden_size=8, **options)
        return aggregator.update(theta, update(delta), aggregator.init(theta, params), params)[0]["w"]

    untrained = rule()[1]
    theta = trained(untrained, size=0.2)
    last = {"nn": ("w2", "b2"), "bank": ("w1", "b1")}
    weaker = {
        name: weights | {leaf: 0.25 * weights[leaf] for leaf in last[name]} for name, weights in theta.items()
    }
    np.testing.assert_array_equal(step(theta, strength=1.0), step(theta))
    np.testing.assert_array_equal(step(theta, strength=0.25), step(weaker))
    traced = jax.jit(lambda strength: step(theta, strength=strength))(0.25)
    np.testing.assert_allclose(traced, step(weaker), rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(step(theta, strength=0.0), step(untrained), rtol=1e-5, atol=1e-8)
    assert np.max(np.abs(step(theta) - step(weaker))) > 1e-3


@pytest.mark.parametrize("strength", [-0.1, float("nan"), float("inf")])
def test_a_strength_that_is_none_is_refused(strength):
    with pytest.raises(UserError, match=r"fedlagg-set: expected strength in \[0, inf\), got"):
        get_aggregator("fedlagg-set", hidden_size=8, strength=strength)


def test_strength_is_of_clients_one_at_a_time_too():
    _, theta = rule()
    theta, delta = trained(theta, size=0.2), deltas(0)
    weak = get_aggregator("fedlagg-set", base="bank", hidden_size=8, strength=0.25)
    assert weak.sums is not None
    state, partial = weak.init(theta, PARAMS), weak.sums.start(PARAMS)
    for client in range(4):
        partial = weak.sums.add(partial, at(delta, client), jnp.float32(1.0))
    found, _ = weak.sums.finish(theta, partial, state, PARAMS)
    together, _ = weak.update(theta, update(delta), state, PARAMS)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7), found, together)


def test_only_the_set_rule_has_a_bank():
    with pytest.raises(UserError, match="bank"):
        get_aggregator("fedlagg-adafac", base="bank")
