"""`nres`: noise-reuse evolution strategies, one perturbation an episode."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from learned_aggregation.meta_training.antithetic import perturbation, start_arms, unroll_arms
from learned_aggregation.meta_training.unroll import (
    Episode,
    EpisodeSchedule,
    is_over,
    restart_where,
    start_episode,
    start_midway,
)
from learned_aggregation.types import GradientEstimator, InnerProblem, Key, Metrics, Theta


class NRESState(NamedTuple):
    """arms: inner states of the antithetic pair, leaves [2, ...].

    noise: z ~ N(0, I), shaped like theta; the episode's perturbation is std * z.
    """

    arms: Any
    noise: Theta
    episode: Episode


def nres(problem: InnerProblem, schedule: EpisodeSchedule, std: float) -> GradientEstimator:
    """NRES: the arms keep one eps ~ N(0, std^2 I) from an episode's start to its end.

    gradient = eps * mean_r(loss_plus - loss_minus) / (2 std^2), the mean over one window's rounds. Its mean
    over the windows of an episode is the estimate of `full_es` over that episode, one window at a time; it
    needs no accumulator, and without one its variance does not grow with the number of windows as that of
    `pes` does. The state holds eps / std, so `std` may change within an episode.

    Args:
      schedule: the window L and the distribution of episode lengths.
      std: standard deviation of the perturbation; may be traced.
    References:
      Li et al., "Noise-Reuse in Online Evolution Strategies", NeurIPS 2023, arXiv:2304.12180, Algorithm 2;
      the same estimator is ES-Single in Vicol, "Low-Variance Gradient Estimation in Unrolled Computation
      Graphs with ES-Single", ICML 2023.
    """

    def fresh(theta: Theta, data: Any, episode: Episode, key: Key) -> NRESState:
        reset_key, noise_key = jax.random.split(key)
        return NRESState(
            start_arms(problem, theta, data, reset_key), perturbation(noise_key, theta, 1.0), episode
        )

    def init(theta: Theta, data: Any, key: Key) -> NRESState:
        episode_key, fresh_key = jax.random.split(key)
        return fresh(theta, data, start_midway(schedule, episode_key), fresh_key)

    def estimate(theta: Theta, state: NRESState, data: Any, key: Key) -> tuple[Theta, NRESState, Metrics]:
        unroll_key, fresh_key, episode_key = jax.random.split(key, 3)
        restarted = fresh(theta, data, start_episode(schedule, episode_key), fresh_key)
        arms, noise, episode = restart_where(is_over(state.episode), restarted, state)
        eps = jax.tree.map(lambda z: std * z, noise)
        arms, losses = unroll_arms(problem, theta, eps, arms, data, unroll_key, schedule.window)
        difference = jnp.mean(losses[0] - losses[1])
        gradient = jax.tree.map(lambda z: z * difference / (2.0 * std), noise)
        state = NRESState(arms, noise, episode._replace(position=episode.position + 1))
        return gradient, state, {"meta_loss": jnp.mean(losses)}

    return GradientEstimator(init, estimate)
