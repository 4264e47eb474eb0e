"""The set rule's Pallas kernel, interpreted, against XLA's program; what a GPU's compiler is given of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import cohort, random_tree

from learned_aggregation import get_aggregator
from learned_aggregation.aggregators.learned import set_rule
from learned_aggregation.aggregators.learned.set_features import Rows
from learned_aggregation.kernels import pallas_set

INTERPRETED = pallas_set.network_steps
SHAPES = [(70,), (0, 3), (7, 9)]
"""More parameters than a tile, none, fewer; with and without factored dimensions."""


def with_kernel(monkeypatch, taken):
    """As on a GPU that runs it: XLA's form of the rule, tensor by tensor, with the kernel interpreted in it."""

    def interpreted(rows, *arguments):
        taken.append(rows.param.size)
        return INTERPRETED(rows, *arguments, interpret=True)

    monkeypatch.setattr(pallas_set, "network_steps", interpreted)
    monkeypatch.setattr(pallas_set, "fits", lambda rows, weights: True)


def by_the_program(monkeypatch):
    monkeypatch.setattr(set_rule, "fits", lambda arrays: False)
    monkeypatch.setattr(set_rule, "is_small", lambda tensors: False)


def theta_of(aggregator):
    theta = aggregator.init_theta(jax.random.key(0))
    return jax.tree.map(jnp.add, theta, random_tree(jax.random.key(1), theta, scale=0.2))


@pytest.mark.parametrize("base", [pytest.param("nesterov", marks=pytest.mark.slow), "bank"])
def test_the_update_that_takes_it_agrees_with_the_program(monkeypatch, base):
    """Over two rounds; vmapped over problems, and differentiated as XLA's program is."""
    by_the_program(monkeypatch)
    aggregator = get_aggregator("fedlagg-set", hidden_size=16, base=base)
    theta, taken = theta_of(aggregator), []
    params = random_tree(jax.random.key(2), [jnp.zeros(s) for s in SHAPES], scale=0.1)
    deltas = random_tree(jax.random.key(3), params, (2, 2, 3), scale=0.02)

    def steps(theta):
        def one(delta):
            state, made = aggregator.init(theta, params), []
            for t in range(2):
                now = cohort(jax.tree.map(lambda x, t=t: x[t], delta), jnp.arange(1.0, 4.0))
                step, state = aggregator.update(theta, now, state, params)
                made.append(step)
            return made

        return jax.vmap(one)(deltas)

    def size(theta):
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(steps(theta)))

    def found():
        return jax.jit(lambda theta: (steps(theta), jax.grad(size)(theta)))(theta)

    oracle = found()
    with_kernel(monkeypatch, taken)
    ours = found()
    assert set(taken) == {70, 63}
    for a, b in zip(*map(jax.tree.leaves, (ours, oracle)), strict=True):
        if b.size:
            np.testing.assert_allclose(a, b, rtol=0, atol=2e-5 * np.abs(b).max() + 1e-30)


def test_one_client_at_a_time_takes_it_too(monkeypatch):
    aggregator, taken = get_aggregator("fedlagg-set", hidden_size=16), []
    theta, params = theta_of(aggregator), {"w": jnp.ones((7, 9))}
    with_kernel(monkeypatch, taken)
    partial = aggregator.sums.add(aggregator.sums.start(params), {"w": 0.1 * params["w"]}, 1.0)
    aggregator.sums.finish(theta, partial, aggregator.init(theta, params), params)
    assert taken == [63]


def operands(hidden=32, n=96):
    rng = np.random.default_rng(0)

    def some(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    rows = Rows(
        some(n), jnp.abs(some(n)), some(n), some(n), some(n), some(3, n), jnp.abs(some(n)), jnp.abs(some(n))
    )
    weights = {"w0": some(13, hidden), "w1": some(hidden, hidden), "b1": some(hidden)}
    weights |= {"w2": some(hidden, 2), "b2": some(2)}
    return rows, some(13), some(hidden), weights


def test_a_gpu_compiler_is_given_one_triton_kernel():
    traced = jax.jit(lambda *x: INTERPRETED(*x, (2.0, 0.1, 1.5, 6.0, 1e-20, 1e-12))).trace(*operands())
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("__gpu$xla.gpu.triton") == 1


def test_it_is_taken_on_a_gpu_that_runs_it_and_for_what_it_is_made_for(monkeypatch):
    rows, _, _, weights = operands()
    assert not pallas_set.fits(rows, weights)
    with pytest.warns(UserWarning, match="interpret"):
        assert not pallas_set.available.__wrapped__(), "a CPU cannot run it"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(pallas_set, "available", lambda: True)
    assert pallas_set.fits(rows, weights)
    assert not pallas_set.fits(rows, operands(hidden=24)[-1])
    assert not pallas_set.fits(rows._replace(mean=rows.mean.astype(jnp.bfloat16)), weights)
    assert not pallas_set.fits(rows, weights | {"w1": weights["w1"].astype(jnp.bfloat16)})
    assert not pallas_set.fits(Rows(*(x[..., :0] for x in rows)), weights)


@pytest.mark.parametrize("error", [0.0, 0.01])
def test_it_is_there_where_the_compiled_one_is_right(monkeypatch, error):
    grid = pallas_set._grid
    monkeypatch.setattr(
        pallas_set,
        "_grid",
        lambda operands, hidden, interpret: grid(operands, hidden, True) * (1 if interpret else 1 + error),
    )
    if error:
        with pytest.warns(UserWarning, match="XLA's program runs instead"):
            assert not pallas_set.available.__wrapped__()
    else:
        assert pallas_set.available.__wrapped__()


@pytest.mark.gpu
def test_this_gpu_runs_it():
    assert pallas_set.available()
