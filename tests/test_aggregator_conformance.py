"""What every registered aggregator promises; a new rule is picked up from the registry.

A classical rule needs a row in `helpers.CLASSICAL` (the options to make it with); a learned one needs none.
"""

import functools
import inspect
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import CLASSICAL, Layer, assert_close, cohort, random_tree, ranks_tree, small_tree, specs

from learned_aggregation import get_aggregator
from learned_aggregation.aggregators import AGGREGATORS, accepted_options
from learned_aggregation.errors import UserError

CLIENTS = 4
FIXED_K = {"fedlagg", "fedlagg-adafac", "fedlagg-wavg"}
TREES = {
    "nested dicts": lambda leaf: {"a": {"b": leaf, "c": {"d": leaf}}},
    "list": lambda leaf: [leaf, [leaf]],
    "tuple": lambda leaf: (leaf, (leaf, leaf)),
    "NamedTuple": lambda leaf: {"layer": Layer(leaf, leaf)},
    "a bare array": lambda leaf: leaf,
}


def make(name: str):
    """The rule for CLIENTS clients."""
    return get_aggregator(name, num_grads=CLIENTS, **CLASSICAL.get(name, {}))


@functools.cache
def compiled(name: str):
    """(rule, theta, its jitted update), shared by the tests: compiling is what takes their time."""
    aggregator = make(name)
    return aggregator, aggregator.init_theta(jax.random.key(0)), jax.jit(aggregator.update)


def random_cohort(seed: int, params, clients: int = CLIENTS):
    return cohort(random_tree(jax.random.key(seed), params, (clients,), 0.1))


def assert_finite(tree) -> None:
    for leaf in jax.tree.leaves(tree):
        assert np.all(np.isfinite(leaf))


def update_specs(aggregator, params, clients: int = CLIENTS):
    """Shapes and dtypes of (state, step, next state), without compiling anything."""

    def both(params, delta):
        theta = aggregator.init_theta(jax.random.key(0))
        state = aggregator.init(theta, params)
        return state, aggregator.update(theta, cohort(delta), state, params)

    delta = jax.tree.map(lambda leaf: jnp.zeros((clients, *leaf.shape)), params)
    state, (step, after) = jax.eval_shape(both, params, delta)
    return state, step, after


@pytest.mark.parametrize("name", AGGREGATORS)
def test_rounds_on_every_rank_keep_shapes_state_and_program(name):
    aggregator, theta, update = compiled(name)
    params = ranks_tree()
    state = aggregator.init(theta, params)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
    for t in range(3):
        step, after = update(theta, random_cohort(t, params), state, params)
        assert specs(step) == specs(params)
        assert specs(after) == specs(state)
        assert_finite((step, after))
        assert all(np.any(leaf) for leaf in jax.tree.leaves(step))
        params, state = jax.tree.map(jnp.add, params, step), after
    assert update._cache_size() == 1


@pytest.mark.parametrize("name", AGGREGATORS)
def test_clients_that_do_not_move_give_finite_steps(name):
    aggregator, theta, update = compiled(name)
    params = ranks_tree()
    state = aggregator.init(theta, params)
    still = cohort(jax.tree.map(lambda leaf: jnp.zeros((CLIENTS, *leaf.shape)), params))
    for _ in range(2):
        step, state = update(theta, still, state, params)
        assert_finite((step, state))
        if name in CLASSICAL:
            assert not any(np.any(leaf) for leaf in jax.tree.leaves(step))


@pytest.mark.parametrize("kind", TREES)
@pytest.mark.parametrize("name", AGGREGATORS)
def test_works_on_any_pytree(name, kind):
    params = TREES[kind](jnp.ones((2, 3)))
    state, step, after = update_specs(make(name), params)
    assert specs(step) == specs(params)
    assert specs(after) == specs(state)


@pytest.mark.parametrize("name", AGGREGATORS)
def test_scan_of_vmap_equals_a_loop(name):
    """Rounds as a scan over a batch of inner problems, as meta-training runs them."""
    aggregator, theta, update = compiled(name)
    problems, rounds = 2, 3
    start = random_tree(jax.random.key(5), small_tree(), (problems,))
    deltas = random_tree(jax.random.key(6), small_tree(), (rounds, problems, CLIENTS), 0.1)

    def one_round(carry, delta):
        params, state = carry
        step, state = jax.vmap(lambda d, s, p: aggregator.update(theta, cohort(d), s, p))(
            delta, state, params
        )
        return (jax.tree.map(jnp.add, params, step), state), None

    states = jax.vmap(lambda p: aggregator.init(theta, p))(start)
    (batched, _), _ = jax.jit(lambda carry, xs: jax.lax.scan(one_round, carry, xs))((start, states), deltas)

    params = jax.tree.map(lambda leaf: leaf[1], start)
    state = aggregator.init(theta, params)
    for t in range(rounds):
        delta = jax.tree.map(lambda leaf: leaf[t, 1], deltas)  # noqa: B023 (used at once)
        step, state = update(theta, cohort(delta), state, params)
        params = jax.tree.map(jnp.add, params, step)
    assert_close(jax.tree.map(lambda leaf: leaf[1], batched), params)


@pytest.mark.parametrize("name", AGGREGATORS)
def test_another_number_of_clients_works_or_is_refused(name):
    """Rules that read the raw deltas are made for one K; all others take any."""
    if name in FIXED_K:
        with pytest.raises(UserError, match=f"{name}: expected the deltas of num_grads=4 clients, got 3"):
            update_specs(make(name), small_tree(), clients=3)
    else:
        _, step, _ = update_specs(make(name), small_tree(), clients=3)
        assert jax.tree.map(jnp.shape, step) == jax.tree.map(jnp.shape, small_tree())


@pytest.mark.parametrize("name", AGGREGATORS)
def test_num_clients_is_k_where_theta_depends_on_it(name):
    """And None everywhere else."""
    options = CLASSICAL.get(name, {})
    one, other = (get_aggregator(name, num_grads=k, **options) for k in (CLIENTS, CLIENTS + 1))
    thetas = [specs(jax.eval_shape(rule.init_theta, jax.random.key(0))) for rule in (one, other)]
    depends = thetas[0] != thetas[1]
    assert depends == (name in FIXED_K)
    assert (one.num_clients, other.num_clients) == ((CLIENTS, CLIENTS + 1) if depends else (None, None))


def test_the_learned_rules_say_their_options_in_their_signature():
    """As if each of them listed its arguments; what may be swept is found by the annotation `float`."""
    expected = (
        "(*, num_grads: int, hidden_size: int, base: str = 'none', base_learning_rate: float = 1.0, "
        "base_momentum: float = 0.5) -> learned_aggregation.types.Aggregator"
    )
    for name in ("fedlagg", "fedlopt", "fedlagg-wavg", "fedlagg-adafac", "fedlopt-adafac"):
        rule = AGGREGATORS[name]
        assert str(inspect.signature(rule)) == expected
        types = typing.get_type_hints(rule)
        assert [option for option in types if types[option] is float] == [
            "base_learning_rate",
            "base_momentum",
        ]
        assert rule.__name__ == name.replace("-", "_")
        assert rule.__doc__.startswith("L")
        with pytest.raises(TypeError, match="positional"):
            rule(8, 32)


@pytest.mark.parametrize("name", AGGREGATORS)
def test_an_unknown_option_is_named_with_the_near_miss(name):
    options = accepted_options(name)
    wrong = f"{options[0]}x" if options else "beta"
    with pytest.raises(UserError) as error:
        get_aggregator(name, **CLASSICAL.get(name, {}), **{wrong: 0.5})
    assert str(error.value).startswith(f"{name}: expected options among {options}, got {wrong!r}.")
    if options:
        assert f"Did you mean {options[0]!r}?" in str(error.value)


@pytest.mark.parametrize("name", sorted(CLASSICAL))
def test_the_table_gives_every_option(name):
    """So that the sweep below traces them all."""
    assert set(CLASSICAL[name]) == set(accepted_options(name))


@pytest.mark.parametrize("name", [name for name in CLASSICAL if CLASSICAL[name]])
def test_a_sweep_over_floats_is_one_program(name):
    """All options traced under vmap give what each point gives alone."""
    params, rounds = small_tree(), 3
    points = [CLASSICAL[name], {option: 0.5 * value for option, value in CLASSICAL[name].items()}]

    def run(options):
        aggregator = get_aggregator(name, **options)
        state, model = aggregator.init((), params), params
        for t in range(rounds):
            step, state = aggregator.update((), random_cohort(t, params), state, model)
            model = jax.tree.map(jnp.add, model, step)
        return model

    stacked = jax.tree.map(lambda *values: jnp.array(values), *points)
    swept = jax.jit(jax.vmap(run))(stacked)
    for i, point in enumerate(points):
        assert_close(jax.tree.map(lambda leaf: leaf[i], swept), run(point), rtol=1e-4)  # noqa: B023


@pytest.mark.parametrize("name", CLASSICAL)
def test_classical_rules_converge_on_a_quadratic(name):
    """Client k pulls towards its own target at rate 0.1; the mean target is the optimum."""
    aggregator = make(name)
    targets = random_tree(jax.random.key(7), small_tree(), (CLIENTS,))
    optimum = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), targets)

    def loss(params):
        return sum(
            jnp.sum((p - o) ** 2) for p, o in zip(*map(jax.tree.leaves, (params, optimum)), strict=True)
        )

    def one_round(carry, _):
        params, state = carry
        delta = jax.tree.map(lambda p, target: -0.1 * (p - target), params, targets)
        step, state = aggregator.update((), cohort(delta), state, params)
        return (jax.tree.map(jnp.add, params, step), state), None

    start = (small_tree(), aggregator.init((), small_tree()))
    (params, _), _ = jax.jit(lambda carry: jax.lax.scan(one_round, carry, length=300))(start)
    assert loss(params) < 0.1 * loss(small_tree())
