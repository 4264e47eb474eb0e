"""The CPU kernel of `fedlagg-set` against XLA's program, its oracle."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import cohort, random_tree
from hypothesis import given, settings
from hypothesis import strategies as st

from learned_aggregation import get_aggregator, kernels
from learned_aggregation.aggregators.learned import set_features, set_rule
from learned_aggregation.devices.parallel import job_mesh, map_jobs
from learned_aggregation.kernels import compiled, set_step

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
# Ranks 0 to 5, sizes 0 and 1, equal dimensions, factored dimensions first, last, apart and not contiguous; more lines
# than are summed at once; tiles with rests of every number of vectors.
SHAPES = [
    (),
    (70,),
    (0, 3),
    (1, 1, 1),
    (65, 1),
    (7, 7),
    (3, 41),
    (70, 65),
    (9, 4, 2, 8),
    (2, 3, 1, 4, 3),
    (8, 7, 3, 3),
]


@pytest.fixture(autouse=True, scope="module")
def built():
    compiled.build()
    kernels.available.cache_clear()
    assert kernels.available()


def rounds(aggregator, theta, params, deltas, weight):
    """[(step, state) of each round], params moving along."""
    update = jax.jit(
        lambda *arguments: aggregator.update(*arguments)
    )  # a function that JAX has no program of yet
    state, made = aggregator.init(theta, params), []
    for delta in deltas:
        step, state = update(theta, cohort(delta, weight), state, params)
        params = jax.tree.map(jnp.add, params, step)
        made.append((step, state))
    return made


def some_theta(aggregator, scale=0.2):
    theta = aggregator.init_theta(jax.random.key(0))
    return jax.tree.map(jnp.add, theta, random_tree(jax.random.key(1), theta, scale=scale))


def case(shapes=SHAPES, clients=5, count=3, seed=0):
    params = random_tree(jax.random.key(seed), [jnp.zeros(shape) for shape in shapes], scale=0.1)
    deltas = [
        random_tree(jax.random.key(10 + t + seed), params, (clients,), scale=0.02) for t in range(count)
    ]
    return params, deltas, jnp.arange(1.0, clients + 1.0)


def both(monkeypatch, aggregator, *arguments):
    """With the kernel, and by the program tensor by tensor.

    Cosines are compared with 1, their unit: one near 0 is a difference of sums that nearly cancel.
    """
    ours = rounds(aggregator, *arguments)
    with monkeypatch.context() as patch:
        patch.setattr(set_rule, "fits", lambda arrays: False)
        patch.setattr(set_rule, "is_small", lambda tensors: False)
        oracle = rounds(aggregator, *arguments)
    return [[(step, from_one(state)) for step, state in made] for made in (ours, oracle)]


def from_one(state):
    """The state with 1 added to its cosines."""
    return state._replace(history=tuple(h._replace(alignment=1.0 + h.alignment) for h in state.history))


def assert_close(ours, oracle, tolerance=1e-5):
    assert jax.tree.structure(ours) == jax.tree.structure(oracle)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(oracle), strict=True):
        assert a.shape == b.shape
        np.testing.assert_array_equal(np.isfinite(a), np.isfinite(b))
        if b.size and np.isfinite(b).all():
            np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize(("base", "hidden"), [("momentum", 32), ("nesterov", 4), ("mean", 7), ("bank", 8)])
def test_it_agrees_with_the_program(monkeypatch, base, hidden):
    aggregator = get_aggregator("fedlagg-set", hidden_size=hidden, base=base, base_learning_rate=0.7)
    assert_close(*both(monkeypatch, aggregator, some_theta(aggregator), *case()))


@given(
    shape=st.lists(st.integers(1, 9), max_size=5).map(tuple),
    clients=st.integers(1, 17),
    seed=st.integers(0, 99),
)
@settings(max_examples=4, deadline=None)
def test_it_agrees_on_any_shape_and_number_of_clients(shape, clients, seed):
    """To 2e-5 of the largest step of this tensor or a vector of 70: that of one parameter may cancel to nothing."""
    aggregator = get_aggregator("fedlagg-set", hidden_size=4)
    with pytest.MonkeyPatch.context() as patch:
        found = both(patch, aggregator, some_theta(aggregator), *case([shape, (70,)], clients, 2, seed))
    for made in zip(*found, strict=True):
        ours, oracle = (jnp.concatenate([x.ravel() for x in step]) for step, _ in made)
        assert_close([ours], [oracle], 2e-5)


def test_it_is_the_kernel_that_runs():
    """And not XLA's own program, which would agree as well."""
    aggregator = get_aggregator("fedlagg-set", hidden_size=4)
    params, [delta], weight = case([(7, 7)], count=1)
    arguments = (some_theta(aggregator), cohort(delta, weight), aggregator.init((), params), params)
    text = jax.jit(aggregator.update).lower(*arguments).as_text()
    targets = (kernels.SET_STATISTICS_TARGET, kernels.SET_SQUARES_TARGET, kernels.SET_STEP_TARGET)
    assert [text.count(f"@{target}(") for target in targets] == [1, 1, 1]


def test_the_step_is_shortened_as_the_programs_is(monkeypatch):
    aggregator = get_aggregator("fedlagg-set", hidden_size=4, base_learning_rate=5.0)
    theta = aggregator.init_theta(jax.random.key(0))
    theta["nn"]["b2"] = jnp.array([100.0, -100.0])
    params, deltas, weight = case([(70,), (9, 8)], count=1)
    [(step, _)], [(expected, _)] = both(monkeypatch, aggregator, theta, params, deltas * 1, weight)
    assert_close(step, expected)
    size = jnp.mean(jnp.average(deltas[0][0] ** 2, axis=0, weights=weight))
    np.testing.assert_allclose(jnp.sqrt(jnp.mean(step[0] ** 2)), set_rule.TRUST * jnp.sqrt(size), rtol=1e-4)


def test_a_client_of_weight_zero_leaves_no_trace():
    """Bit for bit, also of NaN."""
    aggregator = get_aggregator("fedlagg-set", hidden_size=4)
    params, deltas, weight = case()
    more = [jax.tree.map(lambda x: jnp.concatenate([x[:1] + jnp.nan, x]), delta) for delta in deltas]
    theta = some_theta(aggregator)
    ours = rounds(aggregator, theta, params, more, jnp.concatenate([jnp.zeros(1), weight]))
    expected = rounds(aggregator, theta, params, deltas, weight)
    jax.tree.map(np.testing.assert_array_equal, ours, expected)


@pytest.mark.parametrize("weight", [0.0, jnp.nan])
def test_what_is_not_finite_gives_what_is_not(monkeypatch, weight):
    """A NaN in a delta of a client that is here; no client at all."""
    aggregator = get_aggregator("fedlagg-set", hidden_size=4)
    params, [delta], weights = case([(70,), (9, 8)], clients=2, count=1)
    if weight == 0.0:
        delta[0] = delta[0].at[1, 3].set(jnp.nan)
    else:
        weights = jnp.zeros(2)
    ours, oracle = both(monkeypatch, aggregator, some_theta(aggregator), params, [delta], weights)
    assert_close(ours, oracle)
    assert not any(jnp.any(jnp.isfinite(leaf)) for leaf in ours[0][0])


def test_problems_and_arms_are_batches():
    """theta differs by arm, everything else by problem: vmapped twice, and each as if alone."""
    aggregator = get_aggregator("fedlagg-set", hidden_size=6)
    thetas = jax.tree.map(lambda x: jnp.stack([x, 1.1 * x]), some_theta(aggregator))
    params, [deltas], _ = case([(2, 5, 9), (2, 11)], count=1)
    deltas = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), deltas)

    def two_rounds(theta, delta, params):
        state = aggregator.init(theta, params)
        for weight in (jnp.arange(5.0), jnp.ones(5)):
            step, state = aggregator.update(theta, cohort(delta, weight), state, params)
        return step, state

    whole = jax.jit(jax.vmap(jax.vmap(two_rounds, (0, None, None)), (None, 0, 0)))(thetas, deltas, params)
    for problem in range(2):
        for arm in range(2):
            parts = ((arm, thetas), (problem, deltas), (problem, params))
            alone = two_rounds(*(jax.tree.map(lambda x, i=i: x[i], y) for i, y in parts))
            assert_close(jax.tree.map(lambda x: x[problem, arm], whole), alone, 1e-6)  # noqa: B023


def test_derivatives_are_those_of_the_program(monkeypatch):
    aggregator = get_aggregator("fedlagg-set", hidden_size=4)
    params, [delta], weight = case([(3, 4)], count=1)
    theta, state = some_theta(aggregator), aggregator.init((), params)

    def size(theta, delta):
        [step], _ = aggregator.update(theta, cohort([delta], weight), state, params)
        return jnp.sum(step * step)

    ours = jax.jit(jax.grad(size, (0, 1)))(theta, delta[0])
    monkeypatch.setattr(set_rule, "fits", lambda arrays: False)
    assert_close(ours, jax.jit(jax.grad(lambda *x: size(*x), (0, 1)))(theta, delta[0]), 1e-4)


def test_it_runs_in_a_shard_map():
    mesh = job_mesh(2, 1)
    aggregator = get_aggregator("fedlagg-set", hidden_size=4)
    params, [deltas], weight = case([(2, 5, 9), (2, 11)], count=1)
    deltas = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), deltas)

    def one(theta, job):
        delta, params = job
        return aggregator.update(theta, cohort(delta, weight), aggregator.init(theta, params), params)

    theta = some_theta(aggregator)
    sharded = jax.jit(map_jobs(one, mesh))(theta, (deltas, params))
    assert_close(sharded, jax.jit(jax.vmap(one, (None, 0)))(theta, (deltas, params)), 1e-6)


def test_sums_keep_their_digits_at_unlike_magnitudes():
    """A mean square over parameters of which one in a thousand is a thousand times larger, against float64."""
    aggregator = get_aggregator("fedlagg-set", hidden_size=4, base="mean")
    rng = np.random.default_rng(0)
    delta = rng.normal(size=(1, 300, 700)).astype(np.float32)
    delta[:, :, ::1000] *= 1000.0
    params = {"w": jnp.zeros((300, 700))}
    [(_, state)] = rounds(
        aggregator, some_theta(aggregator), params, [{"w": jnp.asarray(delta)}], jnp.ones(1)
    )
    square = delta[0].astype(np.float64) ** 2
    [history] = state.history
    rate = 1.0 - set_features.SECOND_DECAY
    for ours, axis in ((history.row, 1), (history.col, 0)):
        np.testing.assert_allclose(ours, rate * square.mean(axis=axis), rtol=1e-6)


def test_other_dtypes_go_to_the_program():
    assert set_step.fits([jnp.zeros(4), jnp.zeros((2, 4))])
    assert not set_step.fits([jnp.zeros(4), jnp.zeros((2, 4), jnp.bfloat16)])


def test_its_memory_is_one_array(monkeypatch):
    """Beside what goes in and comes out: the sign agreement. The features would be 13 arrays."""
    aggregator = get_aggregator("fedlagg-set", hidden_size=32)
    params = jax.ShapeDtypeStruct((1000, 1000), jnp.float32)
    arguments = jax.eval_shape(
        lambda key, w: (
            aggregator.init_theta(key),
            cohort(jnp.zeros((8, *w.shape))),
            aggregator.init((), w),
            w,
        ),
        jax.random.key(0),
        params,
    )
    memory = jax.jit(aggregator.update).lower(*arguments).compile().memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes < 1.1 * 4e6
