"""The clients' Muon against the mathematics, in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import random_tree

from learned_aggregation.federated.clients import LOCAL_OPTIMIZERS
from learned_aggregation.federated.clients.muon import muon, trained_by

RATE = 0.02
PARAMS = {
    "embed": {"embedding": jnp.zeros((7, 4))},
    "conv": {"kernel": jnp.zeros((3, 2, 4, 5)), "bias": jnp.zeros(5)},
    "hidden": {"kernel": jnp.zeros((3, 8))},
    "head": {"kernel": jnp.zeros((8, 2)), "bias": jnp.zeros(2)},
}


def newton_schulz(u):
    """Five quintic steps of the matrix u [n, m] over its Frobenius norm."""
    x = u / (np.linalg.norm(u) + 1e-8)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x


def numpy_muon(weight, gradients):
    """The weights after a step on each of the gradients; kernels as matrices of [rows, last axis]."""
    w = np.array(weight, np.float64).reshape(-1, weight.shape[-1])
    m = np.zeros_like(w)
    for t, gradient in enumerate(gradients, start=1):
        g = np.array(gradient, np.float64).reshape(w.shape)
        m = 0.95 * m + 0.05 * g
        u = 0.95 * m / (1 - 0.95 ** (t + 1)) + 0.05 * g / (1 - 0.95**t)
        w = w - RATE * (0.2 * np.sqrt(max(w.shape)) * newton_schulz(u) + 0.1 * w)
    return w.reshape(weight.shape)


def numpy_adamw(weight, gradients):
    w, m, v = np.array(weight, np.float64), 0.0, 0.0
    for t, g in enumerate(np.array(gradients, np.float64), start=1):
        m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g**2
        w = w - RATE * (m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.95**t)) + 1e-8) + 0.1 * w)
    return w


def test_steps_are_those_of_the_mathematics():
    start, *gradients = (random_tree(jax.random.key(i), PARAMS) for i in range(4))
    optimizer = muon(RATE)
    params, state = start, optimizer.init(start)
    for gradient in gradients:
        step, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, step)
    oracle = {"muon": numpy_muon, "adamw": numpy_adamw}
    expected = jax.tree.map(
        lambda by, weight, *seen: oracle[by](weight, seen), trained_by(start), start, *gradients
    )
    jax.tree.map(
        lambda got, want: np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-5), params, expected
    )


def test_it_trains_what_lies_between_input_and_output():
    assert trained_by(PARAMS) == {
        "embed": {"embedding": "adamw"},
        "conv": {"kernel": "muon", "bias": "adamw"},
        "hidden": {"kernel": "muon"},
        "head": {"kernel": "adamw", "bias": "adamw"},
    }


@pytest.mark.parametrize("shape", [(4, 16), (16, 4)])
def test_a_first_step_is_nearly_orthogonal_and_of_the_size_of_adamws(shape):
    optimizer = LOCAL_OPTIMIZERS["muon"](1.0)
    params = {"kernel": jnp.zeros(shape)}
    step, _ = optimizer.update(random_tree(jax.random.key(0), params), optimizer.init(params), params)
    singular = np.linalg.svd(step["kernel"], compute_uv=False) / (0.2 * 4)
    assert np.all((singular > 0.5) & (singular < 1.5))
    assert 0.05 < np.sqrt(np.mean(step["kernel"] ** 2)) < 0.3


def test_a_gradient_of_zero_and_a_frozen_tensor_stay_finite():
    params = {"kernel": jnp.ones((2, 3)), "frozen": None}
    optimizer = muon(RATE)
    step, _ = optimizer.update({"kernel": jnp.zeros((2, 3)), "frozen": None}, optimizer.init(params), params)
    np.testing.assert_allclose(step["kernel"], -RATE * 0.1 * np.ones((2, 3)), rtol=1e-6)
    assert step["frozen"] is None
