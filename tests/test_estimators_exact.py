"""Every estimator of the registry against backpropagation through whole episodes, by its public interface."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_run

from learned_aggregation import build
from learned_aggregation.config.resolve import Config
from learned_aggregation.meta_training.antithetic import perturbation
from learned_aggregation.meta_training.estimators import ESTIMATORS
from learned_aggregation.meta_training.unroll import Episode, EpisodeSchedule, is_over
from learned_aggregation.types import InnerProblem

WINDOW, WINDOWS, STD, PARTICLES = 5, 4, 0.01, 20_000
SCHEDULE = EpisodeSchedule(WINDOW * WINDOWS, WINDOW * WINDOWS, WINDOW)
CURVATURE = jnp.array([1.0, 0.3, 0.05])
THETA = {"rate": jnp.float32(-1.5), "momentum": jnp.float32(0.4)}
BIASED = {"truncated_backprop"}
"""A new estimator has to agree with the gradient of the whole episode, or is named here."""


def reset(theta, data, key):
    return jnp.ones(3), jnp.zeros(3), jnp.int32(0)


def advance(theta, state, data, key):
    """Heavy ball on a quadratic. Its noise belongs to the round, so that the exact gradient is one number."""
    w, velocity, rounds = state
    noise = 0.1 * jax.random.normal(jax.random.fold_in(jax.random.key(5), rounds), w.shape)
    velocity = theta["momentum"] * velocity + CURVATURE * (w + noise)
    w = w - jnp.exp(theta["rate"]) * velocity
    return (w, velocity, rounds + 1), 0.5 * jnp.sum(CURVATURE * w**2)


PROBLEM = InnerProblem(reset, advance)


def mean_loss(theta, state, rounds):
    state, losses = jax.lax.scan(lambda s, _: advance(theta, s, (), None), state, None, length=rounds)
    return jnp.mean(losses), state


def start_over(state):
    """The state with its episode at its end, so that the next estimate starts a new one."""
    if not hasattr(state, "episode"):
        return state
    return state._replace(episode=Episode(jnp.int32(WINDOWS), jnp.int32(WINDOWS)))


def one_episode(make, key, between=lambda state, key: state, schedule=SCHEDULE):
    """The mean of the estimates that cover one episode; `between` may spoil the state between them."""
    estimator = make(PROBLEM, schedule, STD)
    state = start_over(estimator.init(THETA, (), key))
    gradients = []
    for r in range(WINDOWS if hasattr(state, "episode") else 1):
        gradient, state, _ = estimator.estimate(THETA, state, (), jax.random.fold_in(key, r))
        gradients.append(gradient)
        state = between(state, jax.random.fold_in(key, 100 + r))
    return jax.tree.map(lambda *g: jnp.mean(jnp.stack(g)), *gradients)


@cache
def exact_gradient():
    return jax.jit(jax.grad(lambda t: mean_loss(t, reset(t, (), None), WINDOW * WINDOWS)[0]))(THETA)


def z_scores(episode):
    keys = jax.random.split(jax.random.key(7), PARTICLES)
    scores = {}
    for name, values in jax.jit(jax.vmap(episode))(keys).items():
        values, exact = np.asarray(values, np.float64), float(exact_gradient()[name])
        error = np.std(values) / np.sqrt(PARTICLES)
        assert error < 0.05 * abs(exact), "too noisy to tell anything"
        scores[name] = abs(np.mean(values) - exact) / max(error, 1e-6 * abs(exact))
    return scores


@pytest.mark.parametrize("name", sorted(set(ESTIMATORS) - BIASED))
def test_the_mean_over_an_episode_is_its_gradient(name):
    assert max(z_scores(partial(one_episode, ESTIMATORS[name])).values()) < 4.0


@pytest.mark.parametrize("name", sorted(BIASED))
def test_the_check_sees_the_bias_of_a_biased_estimator(name):
    assert max(z_scores(partial(one_episode, ESTIMATORS[name])).values()) > 10.0


def test_the_check_sees_an_nres_that_redraws_its_noise_every_window():
    def redraw(state, key):
        return state._replace(noise=perturbation(key, state.noise, 1.0))

    assert max(z_scores(partial(one_episode, ESTIMATORS["nres"], between=redraw)).values()) > 10.0


def test_the_check_sees_a_full_es_that_stops_early():
    short = EpisodeSchedule(WINDOW, WINDOW, WINDOW)
    assert max(z_scores(partial(one_episode, ESTIMATORS["full_es"], schedule=short)).values()) > 10.0


def test_nres_over_an_episode_is_full_es_with_the_same_noise():
    """For the same z the windows of NRES average to the one estimate of FullES."""
    estimator = ESTIMATORS["nres"](PROBLEM, SCHEDULE, STD)
    state = start_over(estimator.init(THETA, (), jax.random.key(0)))
    total, noises = [], []
    for r in range(WINDOWS):
        gradient, state, _ = jax.jit(estimator.estimate)(THETA, state, (), jax.random.key(r))
        total.append(gradient)
        noises.append(state.noise)
    z = noises[0]
    assert all(bool(jnp.all(a == b)) for n in noises for a, b in zip(n.values(), z.values(), strict=True))
    loss = jax.jit(lambda theta: mean_loss(theta, reset(theta, (), None), WINDOW * WINDOWS)[0])
    plus = loss(jax.tree.map(lambda t, d: t + STD * d, THETA, z))
    minus = loss(jax.tree.map(lambda t, d: t - STD * d, THETA, z))
    for name in THETA:
        expected = z[name] * (plus - minus) / (2 * STD)
        np.testing.assert_allclose(np.mean([g[name] for g in total]), expected, rtol=1e-3)


def test_truncated_backprop_is_autodiff_of_each_window():
    estimator = ESTIMATORS["truncated_backprop"](PROBLEM, SCHEDULE, STD)
    estimate = jax.jit(estimator.estimate)
    state = start_over(estimator.init(THETA, (), jax.random.key(0)))
    inner = reset(THETA, (), None)
    window = jax.jit(jax.value_and_grad(lambda t, s: mean_loss(t, s, WINDOW), has_aux=True))
    for r in range(WINDOWS):
        gradient, state, metrics = estimate(THETA, state, (), jax.random.key(r))
        (loss, inner), expected = window(THETA, inner)
        np.testing.assert_allclose(metrics["meta_loss"], loss, rtol=1e-6)
        for name in THETA:
            np.testing.assert_allclose(gradient[name], expected[name], rtol=1e-6)


def test_a_window_whose_backpropagation_is_not_finite_counts_as_zero():
    broken = InnerProblem(reset, lambda *a: (advance(*a)[0], jnp.sqrt(advance(*a)[1] * 0.0)))
    estimator = ESTIMATORS["truncated_backprop"](broken, SCHEDULE, STD)
    gradient, _, _ = estimator.estimate(
        THETA, estimator.init(THETA, (), jax.random.key(0)), (), jax.random.key(1)
    )
    assert all(float(g) == 0.0 for g in jax.tree.leaves(gradient))


def test_full_es_averages_over_each_episodes_own_length():
    """Side by side, problems of unlike lengths each get the mean loss over their own rounds, and no more."""
    estimator = ESTIMATORS["full_es"](PROBLEM, EpisodeSchedule(WINDOW, WINDOW * WINDOWS, WINDOW), 1e-6)
    keys = jax.random.split(jax.random.key(1), 64)
    start = estimator.init(THETA, (), keys[0])
    _, _, metrics = jax.jit(jax.vmap(lambda k: estimator.estimate(THETA, start, (), k)))(keys)
    possible = [float(mean_loss(THETA, reset(THETA, (), None), WINDOW * n)[0]) for n in range(1, WINDOWS + 1)]
    distance = np.abs(np.asarray(metrics["meta_loss"])[:, None] - np.asarray(possible))
    assert np.all(distance.min(axis=1) < 1e-4)
    assert set(distance.argmin(axis=1)) == set(range(WINDOWS))


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_episodes_restart_and_std_may_be_traced(name):
    def run(std):
        estimator = ESTIMATORS[name](PROBLEM, SCHEDULE, std)
        state, losses = start_over(estimator.init(THETA, (), jax.random.key(0))), []
        for step in range(2 * WINDOWS):
            over = is_over(state.episode) if hasattr(state, "episode") else jnp.bool_(True)
            _, state, metrics = estimator.estimate(THETA, state, (), jax.random.key(step))
            losses.append((metrics["meta_loss"], over))
        return losses

    losses = jax.jit(run)(STD)
    restarts = [float(loss) for loss, over in losses if bool(over)]
    others = [float(loss) for loss, over in losses if not bool(over)]
    assert len(restarts) >= 2
    assert max(restarts) < 1.01 * min(restarts)
    assert not others or max(others) < min(restarts)


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_an_outer_step_of_a_learned_aggregator(name, tmp_path):
    """On a real inner problem, mapped over problems: finite, and theta moves."""
    sizes = tiny_run.SIZES | {"optimizer": "fedlagg-adafac", "estimator": name, "cache_dir": str(tmp_path)}
    training = build.meta_training(Config(**sizes))
    before = jax.tree.map(np.asarray, training.state.theta)
    after, metrics = training.outer_step(training.state, tuple(training.datas))
    assert np.isfinite(float(metrics["meta_loss"]))
    assert 0.0 < float(metrics["grad_norm"]) < np.inf
    moved = jax.tree.map(
        lambda a, b: float(np.max(np.abs(a - b))), before, jax.tree.map(np.asarray, after.theta)
    )
    assert max(jax.tree.leaves(moved)) > 0.0
    arms = 1 if name == "truncated_backprop" else 2
    assert training.rounds_per_step == arms * sizes["num_tasks"] * sizes["truncation_length"]


@pytest.mark.parametrize(("slope", "counts"), [(3.0, True), (1e30, False), (float("inf"), False)])
def test_a_gradient_that_exploded_counts_as_zero(slope, counts):
    """1e30 is finite, but its norm overflows in float32: it would make NaN of a clip."""
    problem = InnerProblem(
        lambda theta, data, key: jnp.float32(0.0),
        lambda theta, state, data, key: (state, slope * theta["x"]),
    )
    estimator = ESTIMATORS["truncated_backprop"](problem, EpisodeSchedule(2, 2, 2), 0.01)
    theta = {"x": jnp.float32(1.0)}
    state = estimator.init(theta, (), jax.random.key(0))
    gradient, _, _ = estimator.estimate(theta, state, (), jax.random.key(1))
    assert float(gradient["x"]) == (slope if counts else 0.0)
