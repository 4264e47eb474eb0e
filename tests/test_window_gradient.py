"""The gradient of a window by a scan back over rounds of real parts, against jax.grad through all of them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import random_tree, regression_batches, regression_task

from learned_aggregation import get_aggregator
from learned_aggregation.federated.client_work import independently
from learned_aggregation.federated.local_training import local_training
from learned_aggregation.federated.parts import assemble
from learned_aggregation.federated.round import federated_round, init_server
from learned_aggregation.meta_training.unroll import unroll
from learned_aggregation.meta_training.window_gradient import window_gradient
from learned_aggregation.types import InnerProblem

LENGTH = 3
KEY = jax.random.key(3)


def problem_of(rule):
    """Clients of a population that keep momentum, so that the state holds floats, counters and what is scattered."""
    aggregator = get_aggregator(rule, hidden_size=4, num_grads=2)
    clients = independently(local_training(regression_task(), optax.sgd(0.05, momentum=0.9), keep_state=True))
    parts = assemble(regression_task(), clients, aggregator)

    def reset(theta, data, key):
        return init_server(theta, parts, *parts.task.init(key), 5)

    def advance(theta, server, data, key):
        ids = jax.random.choice(key, 5, (2,), replace=False)
        batches = regression_batches(key, 2, 2, 4)
        server, _ = federated_round(theta, parts, server, batches, jnp.ones(2), ids, key)
        seen = jax.tree.map(lambda leaf: leaf[0, 0], regression_batches(jax.random.fold_in(key, 1), 1, 1, 8))
        return server, parts.task.loss(server.params, server.model_state, key, seen)[0]

    theta = aggregator.init_theta(jax.random.key(0))
    theta = jax.tree.map(jnp.add, theta, random_tree(jax.random.key(1), theta, scale=0.1))
    return InnerProblem(reset, advance), theta


@pytest.mark.parametrize("rule", [pytest.param("fedlagg-set", marks=pytest.mark.slow), "fedlagg-adafac"])
def test_it_is_autodiff_through_the_window(rule):
    problem, theta = problem_of(rule)
    start = problem.reset(theta, (), jax.random.key(2))

    def mean_loss(theta):
        end, losses = unroll(problem, theta, start, (), KEY, LENGTH)
        return jnp.mean(losses), end

    (loss, end), expected = jax.jit(jax.value_and_grad(mean_loss, has_aux=True))(theta)
    found, after, mean = jax.jit(lambda t: window_gradient(problem, t, start, (), KEY, LENGTH))(theta)
    np.testing.assert_allclose(mean, loss, rtol=1e-5)
    for ours, theirs in zip(jax.tree.leaves(after), jax.tree.leaves(end), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected))
    assert largest > 1e-6
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * largest)
