"""`full_es`: antithetic evolution strategies over whole episodes."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from learned_aggregation.meta_training.antithetic import perturbation, start_arms, unroll_arms
from learned_aggregation.meta_training.unroll import EpisodeSchedule, start_episode
from learned_aggregation.types import GradientEstimator, InnerProblem, Key, Metrics, Theta


class FullESState(NamedTuple):
    """episodes: how many have been run; nothing of an episode outlives its estimate."""

    episodes: Int[Array, ""]


def full_es(problem: InnerProblem, schedule: EpisodeSchedule, std: float) -> GradientEstimator:
    """FullES: every estimate is an episode from its reset to its end, with one perturbation.

    eps ~ N(0, std^2 I);  gradient = eps * mean_r(loss_plus - loss_minus) / (2 std^2), the mean over all of
    the episode's rounds.

    Episodes of random length: a loop over windows that ends with the episode. Its length is data of the
    loop, not a shape, so nothing runs beyond it; of problems mapped over side by side each keeps its state
    once its own episode is over, and the loop ends with the longest of them. An estimate costs as many
    windows as that, where the other estimators cost one.

    Every episode counts equally, whatever its length; the estimators that take one window at a time give
    each ROUND the same weight, and so a long episode more. With one length they agree.

    Args:
      schedule: the window L and the distribution of episode lengths. There is no start midway.
      std: standard deviation of the perturbation; may be traced.
    References:
      Salimans et al., "Evolution Strategies as a Scalable Alternative to Reinforcement Learning", 2017,
      arXiv:1703.03864; named so by Vicol et al., 2021, arXiv:2112.13835.
    """

    def init(theta: Theta, data: Any, key: Key) -> FullESState:
        return FullESState(jnp.int32(0))

    def estimate(theta: Theta, state: FullESState, data: Any, key: Key) -> tuple[Theta, FullESState, Metrics]:
        noise_key, unroll_key, reset_key, episode_key = jax.random.split(key, 4)
        windows = start_episode(schedule, episode_key).length
        noise = perturbation(noise_key, theta, 1.0)
        eps = jax.tree.map(lambda z: std * z, noise)

        def window(carry):
            position, arms, total = carry
            window_key = jax.random.fold_in(unroll_key, position)
            arms, losses = unroll_arms(problem, theta, eps, arms, data, window_key, schedule.window)
            return position + 1, arms, total + jnp.mean(losses, axis=1)

        start = (jnp.int32(0), start_arms(problem, theta, data, reset_key), jnp.zeros(2))
        _, _, total = jax.lax.while_loop(lambda carry: carry[0] < windows, window, start)
        plus, minus = total / windows
        gradient = jax.tree.map(lambda z: z * (plus - minus) / (2.0 * std), noise)
        return gradient, FullESState(state.episodes + 1), {"meta_loss": (plus + minus) / 2.0}

    return GradientEstimator(init, estimate)
