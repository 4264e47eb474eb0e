"""The weighted mean over clients, on a CPU and elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from learned_aggregation.federated.averaging import weighted_mean


@pytest.fixture(params=["cpu", "gpu"])
def backend(request, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: request.param)


def deltas(clients=5):
    rng = np.random.default_rng(0)
    return {
        "w": jnp.asarray(rng.normal(size=(clients, 3, 4)), jnp.float32),
        "steps": jnp.arange(clients),
        "none": jnp.zeros((clients, 0)),
    }


@pytest.mark.usefixtures("backend")
def test_it_is_the_weighted_average():
    weight = jnp.array([1.0, 0.0, 2.0, 0.5, 3.0])
    for name, mean in jax.jit(weighted_mean)(deltas(), weight).items():
        np.testing.assert_allclose(mean, np.average(deltas()[name], axis=0, weights=weight), rtol=1e-6)


@pytest.mark.usefixtures("backend")
def test_problems_that_share_their_weights():
    weight, leaf = jnp.array([1.0, 2.0]), jnp.arange(24.0).reshape(4, 2, 3)
    means = jax.jit(jax.vmap(weighted_mean, (0, None)))(leaf, weight)
    np.testing.assert_allclose(means, (leaf[:, 0] + 2 * leaf[:, 1]) / 3, rtol=1e-6)


@pytest.mark.usefixtures("backend")
def test_its_derivatives_of_both_modes():
    leaf = deltas()["w"]
    check_grads(weighted_mean, (leaf, jnp.arange(1.0, 6.0)), order=2, rtol=1e-2)
