"""`pes`: persistent evolution strategies."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from learned_aggregation.meta_training.antithetic import (
    directional_gradient,
    perturbation,
    start_arms,
    unroll_arms,
)
from learned_aggregation.meta_training.unroll import (
    Episode,
    EpisodeSchedule,
    is_over,
    restart_where,
    start_episode,
    start_midway,
)
from learned_aggregation.types import GradientEstimator, InnerProblem, Key, Metrics, Theta


class PESState(NamedTuple):
    """arms: inner states of the antithetic pair, leaves [2, ...].

    accumulator: xi, the sum of this episode's perturbations, each over its variance.
    """

    arms: Any
    accumulator: Theta
    episode: Episode


def pes_window(
    problem: InnerProblem,
    theta: Theta,
    eps: Theta,
    state: PESState,
    data: Any,
    key: Key,
    length: int,
    std: float | Array,
) -> tuple[Theta, PESState, Metrics]:
    """One window with a given perturbation.

    xi <- xi + eps / std^2;  gradient = xi * mean_r(loss_plus - loss_minus) / 2, also where std changes
    within an episode.
    """
    arms, losses = unroll_arms(problem, theta, eps, state.arms, data, key, length)
    accumulator = jax.tree.map(lambda xi, e: xi + e / std**2, state.accumulator, eps)
    episode = state.episode._replace(position=state.episode.position + 1)
    gradient = directional_gradient(accumulator, losses)
    return gradient, PESState(arms, accumulator, episode), {"meta_loss": jnp.mean(losses)}


def pes(problem: InnerProblem, schedule: EpisodeSchedule, std: float | Array) -> GradientEstimator:
    """Truncated PES: unbiased over the whole episode at the cost of one window an estimate.

    Each window draws a fresh eps ~ N(0, std^2 I); see `pes_window`. An episode that is over restarts (new
    initial parameters shared by both arms, xi = 0) before the window.

    Args:
      schedule: the window L and the distribution of episode lengths.
      std: standard deviation of the perturbation; may be traced.
    References:
      Vicol et al., "Unbiased Gradient Estimation in Unrolled Computation Graphs with Persistent Evolution
      Strategies", ICML 2021, arXiv:2112.13835, Algorithm 2.
    """

    def fresh(theta: Theta, data: Any, episode: Episode, key: Key) -> PESState:
        arms = start_arms(problem, theta, data, key)
        return PESState(arms, jax.tree.map(jnp.zeros_like, theta), episode)

    def init(theta: Theta, data: Any, key: Key) -> PESState:
        episode_key, reset_key = jax.random.split(key)
        return fresh(theta, data, start_midway(schedule, episode_key), reset_key)

    def estimate(theta: Theta, state: PESState, data: Any, key: Key) -> tuple[Theta, PESState, Metrics]:
        eps_key, unroll_key, reset_key, episode_key = jax.random.split(key, 4)
        restarted = fresh(theta, data, start_episode(schedule, episode_key), reset_key)
        state = restart_where(is_over(state.episode), restarted, state)
        eps = perturbation(eps_key, theta, std)
        return pes_window(problem, theta, eps, state, data, unroll_key, schedule.window, std)

    return GradientEstimator(init, estimate)
