"""The Pallas kernel, interpreted, against XLA's program and the plain update; what a GPU's compiler is given of it."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import cohort, random_tree
from hypothesis import given, settings
from hypothesis import strategies as st

from learned_aggregation.aggregators.learned import fast, rules
from learned_aggregation.aggregators.learned.base import Output
from learned_aggregation.aggregators.learned.options import LearnedOptions
from learned_aggregation.kernels import pallas_step

INTERPRETED = pallas_step.network_steps


class LoweringError(Exception):
    """As Pallas has one: of no other class."""


def operands(shape, clients, hidden, seed=0):
    """(net, tensor, view) as `fast.tensor_step` has them."""
    view = fast.view_of(shape)
    a, p, b, q, c = view
    n, factored, rng = a * p * b * q * c, fast.factored_dims(shape) is not None, np.random.default_rng(seed)

    def some(*sizes):
        return jnp.asarray(rng.normal(size=sizes), jnp.float32)

    def sides(rows):
        return (
            (jnp.abs(some(rows, a, p, b, 1, c)), jnp.abs(some(rows, a, 1, b, q, c)))
            if factored
            else (None, None)
        )

    diag = None if factored else jnp.abs(some(3, n))
    tensor = fast.Tensor(
        some(clients, n), some(1, n), some(1, n), some(3, n), jnp.abs(some(1, n)), diag, *sides(3)
    )
    dense = 0.1 * some(clients + (15 if factored else 21), hidden)
    weights = {"w1": 0.2 * some(hidden, hidden), "b1": some(hidden), "w2": some(hidden, 2), "b2": some(2)}
    return fast.Network(dense, some(hidden), *sides(hidden), weights), tensor, view


@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=5).map(tuple),
    clients=st.integers(1, 17),
    hidden=st.sampled_from([16, 32]),
    seed=st.integers(0, 99),
)
@settings(max_examples=5, deadline=None)
def test_it_agrees_with_the_program_on_any_shape(shape, clients, hidden, seed):
    net, tensor, view = operands(shape, clients, hidden, seed)
    if view[4] == 1:
        oracle = fast.network_steps(net, tensor, view, Output(0.1, 0.2), None)
        ours = INTERPRETED(net, tensor, view, Output(0.1, 0.2), interpret=True)
        np.testing.assert_allclose(ours, oracle, rtol=0, atol=1e-5 * np.abs(oracle).max())


def test_the_update_that_takes_it_agrees_with_the_plain_one(monkeypatch):
    """Behind the aggregator's interface: vmapped over problems, and differentiated as XLA's program is."""
    taken = []

    def interpreted(net, tensor, view, output):
        taken.append(view)
        return INTERPRETED(net, tensor, view, output, interpret=True)

    monkeypatch.setattr(pallas_step, "network_steps", interpreted)
    monkeypatch.setattr(pallas_step, "fits", lambda net, tensor, view: view[4] == 1)
    monkeypatch.setattr(fast, "fits", lambda *_: False)
    ours, oracle = (
        family("a", "all", LearnedOptions(num_grads=3, hidden_size=16))
        for family in (fast.fast_adafac, rules.adafac_family)
    )
    params = random_tree(jax.random.key(2), [jnp.zeros(s) for s in [(70,), (7, 9), (3, 3, 5, 8)]], scale=0.1)
    theta = jax.tree.map(lambda x: x + 0.01, oracle.init_theta(jax.random.key(0)))
    deltas = random_tree(jax.random.key(3), params, (2, 3), scale=0.02)

    def steps(aggregator):
        def one(theta, delta):
            return aggregator.update(
                theta, cohort(delta, jnp.ones(3)), aggregator.init(theta, params), params
            )[0]

        def made(theta):
            return jax.vmap(one, (None, 0))(theta, deltas)

        def size(theta):
            return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(made(theta)))

        return jax.jit(made)(theta), jax.jit(jax.grad(size))(theta)

    found = [steps(a) for a in (ours, oracle)]
    assert len(taken) == 3
    for a, b in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-5 * np.abs(b).max() + 1e-30)


def test_a_gpu_compiler_is_given_one_triton_kernel():
    net, tensor, view = operands((24, 40), 8, 32)
    traced = jax.jit(lambda net, tensor: INTERPRETED(net, tensor, view, Output(0.1, 0.2))).trace(net, tensor)
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("__gpu$xla.gpu.triton") == 1


def test_it_is_taken_on_a_gpu_that_runs_it_and_for_what_it_is_made_for(monkeypatch):
    net, tensor, view = operands((24, 40), 8, 32)
    assert not pallas_step.fits(net, tensor, view)
    with pytest.warns(UserWarning, match="interpret"):
        assert not pallas_step.available.__wrapped__(), "a CPU cannot run it"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(pallas_step, "available", lambda: True)
    assert pallas_step.fits(net, tensor, view)
    assert not pallas_step.fits(net, tensor, (*view[:4], 2))
    assert not pallas_step.fits(net, tensor._replace(momentum=None), view)
    assert not pallas_step.fits(net._replace(bias=jnp.zeros(24)), tensor, view)
    assert not pallas_step.fits(net, tensor._replace(rms=tensor.rms.astype(jnp.bfloat16)), view)


def test_an_accelerator_takes_larger_blocks(monkeypatch):
    limits = []
    update = fast.in_blocks(lambda limit, x: limits.append(limit) or x)
    update(1.0)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    update(1.0)
    assert limits == [fast.BLOCK, fast.ACCELERATOR_BLOCK]
    assert fast.ACCELERATOR_BLOCK > fast.BLOCK


@pytest.mark.parametrize(("error", "taken"), [(0.0, True), (0.01, False), (LoweringError, False)])
def test_it_is_there_where_the_compiled_one_is_right(monkeypatch, error, taken):
    """Asked in the middle of a trace, as it is."""
    grid, made = pallas_step._grid, []

    def compiled(operands, hidden, view, interpret):
        if error is LoweringError and not interpret:
            raise LoweringError("no such instruction")
        steps = grid(operands, hidden, view, True)
        jax.debug.callback(made.append, steps)
        return steps if interpret else steps * (1 + error)

    monkeypatch.setattr(pallas_step, "_grid", compiled)
    with contextlib.nullcontext() if taken else pytest.warns(UserWarning, match="XLA's program runs instead"):
        found = jax.jit(lambda x: x * pallas_step.available.__wrapped__())(1)
    assert bool(found) == taken
    jax.effects_barrier()
    assert len(made) == (0 if error is LoweringError else 2)
    assert all(np.isfinite(x).all() and np.std(x) > 0 for x in made)


@pytest.mark.gpu
def test_this_gpu_runs_it():
    assert pallas_step.available()
