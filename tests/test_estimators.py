"""Meta-gradient estimators against autodiff, on a problem whose exact meta-gradient is known."""

import jax
import jax.numpy as jnp
import numpy as np

from learned_aggregation.meta_training.antithetic import perturbation
from learned_aggregation.meta_training.estimators.pes import PESState, pes, pes_window
from learned_aggregation.meta_training.unroll import (
    Episode,
    EpisodeSchedule,
    is_over,
    start_episode,
    start_midway,
    unroll,
)
from learned_aggregation.types import InnerProblem

WINDOW, WINDOWS, STD, PARTICLES = 5, 4, 0.01, 20_000
CURVATURE = jnp.array([1.0, 0.3, 0.05])
THETA = {"rate": jnp.float32(-1.5), "momentum": jnp.float32(0.4)}


def reset(theta, data, key):
    return jnp.ones(3), jnp.zeros(3)


def advance(theta, state, data, key):
    """Heavy ball on a noisy quadratic; the meta-loss is measured after the step."""
    w, velocity = state
    noise = 0.1 * jax.random.normal(key, w.shape)
    velocity = theta["momentum"] * velocity + CURVATURE * (w + noise)
    w = w - jnp.exp(theta["rate"]) * velocity
    return (w, velocity), 0.5 * jnp.sum(CURVATURE * w**2)


PROBLEM = InnerProblem(reset, advance)


def exact_gradient(key):
    """The gradient of the episode's mean meta-loss, for the noise of `key`, by backpropagation."""

    def objective(theta):
        state, losses = reset(theta, (), key), []
        for r in range(WINDOWS):
            state, window = unroll(PROBLEM, theta, state, (), jax.random.fold_in(key, r), WINDOW)
            losses.append(window)
        return jnp.mean(jnp.stack(losses))

    return jax.grad(objective)(THETA)


def episode_estimate(data_key, eps_key, persistent=True):
    """The mean of the windows' estimates over one episode of PES."""
    arms = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), reset(THETA, (), data_key))
    zeros = jax.tree.map(jnp.zeros_like, THETA)
    state = PESState(arms, zeros, Episode(jnp.int32(0), jnp.int32(WINDOWS)))
    total = zeros
    for r in range(WINDOWS):
        eps = perturbation(jax.random.fold_in(eps_key, r), THETA, STD)
        key = jax.random.fold_in(data_key, r)
        gradient, state, _ = pes_window(PROBLEM, THETA, eps, state, (), key, WINDOW, STD)
        total = jax.tree.map(jnp.add, total, gradient)
        if not persistent:
            state = state._replace(accumulator=zeros)
    return jax.tree.map(lambda g: g / WINDOWS, total)


def z_scores(persistent):
    data_key = jax.random.key(3)
    keys = jax.random.split(jax.random.key(7), PARTICLES)
    estimates = jax.jit(jax.vmap(lambda k: episode_estimate(data_key, k, persistent)))(keys)
    estimates = jax.tree.map(lambda g: np.asarray(g, np.float64), estimates)
    exact = exact_gradient(data_key)
    scores = {}
    for name, value in exact.items():
        error = np.std(estimates[name]) / np.sqrt(PARTICLES)
        assert error < 0.05 * abs(value), "too noisy to tell anything"
        scores[name] = abs(np.mean(estimates[name]) - value) / error
    return scores


def test_pes_agrees_with_autodiff_within_its_standard_error():
    assert max(z_scores(persistent=True).values()) < 4.0


def test_without_the_accumulator_the_same_check_fails():
    """Truncated ES is biased; the check above is sharp enough to see it."""
    assert max(z_scores(persistent=False).values()) > 10.0


def test_an_episode_restarts_between_windows_with_both_arms_alike():
    schedule = EpisodeSchedule(WINDOWS * WINDOW, WINDOWS * WINDOW, WINDOW)
    estimator = pes(PROBLEM, schedule, STD)
    state = estimator.init(THETA, (), jax.random.key(0))
    estimate = jax.jit(estimator.estimate)
    for step in range(3 * WINDOWS):
        before = state
        _, state, _ = estimate(THETA, state, (), jax.random.key(step))
        restarted = bool(is_over(before.episode))
        one_eps = all(float(abs(x)) < 6 / STD for x in jax.tree.leaves(state.accumulator))
        if restarted:
            assert int(state.episode.position) == 1
            assert one_eps
        else:
            assert int(state.episode.position) == int(before.episode.position) + 1


def test_both_arms_see_the_same_data_and_keys():
    """With no perturbation the arms are equal, hence the gradient is zero."""
    zeros = jax.tree.map(jnp.zeros_like, THETA)
    arms = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), reset(THETA, (), None))
    state = PESState(arms, jax.tree.map(jnp.ones_like, THETA), Episode(jnp.int32(0), jnp.int32(9)))
    gradient, state, _ = pes_window(PROBLEM, THETA, zeros, state, (), jax.random.key(1), WINDOW, STD)
    assert all(float(g) == 0.0 for g in jax.tree.leaves(gradient))
    np.testing.assert_array_equal(state.arms[0][0], state.arms[0][1])


def test_episode_lengths_are_whole_windows_and_first_ones_start_midway():
    schedule = EpisodeSchedule(100, 1000, 50)
    keys = jax.random.split(jax.random.key(0), 2000)
    lengths = np.asarray(jax.vmap(lambda k: start_episode(schedule, k))(keys).length)
    assert lengths.min() == 2
    assert lengths.max() == 20
    # log-uniform: half of the lengths lie below the geometric mean of the bounds, 316 rounds
    assert abs(np.mean(lengths * 50 < 316) - 0.5) < 0.05
    midway = jax.vmap(lambda k: start_midway(schedule, k))(keys)
    assert np.all(np.asarray(midway.position) < np.asarray(midway.length))
    assert len(np.unique(midway.position)) > 10
