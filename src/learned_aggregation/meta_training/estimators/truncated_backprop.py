"""`truncated_backprop`: the exact gradient of one window, blind to all that came before it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_aggregation.meta_training.unroll import (
    Episode,
    EpisodeSchedule,
    is_over,
    restart_where,
    start_episode,
    start_midway,
)
from learned_aggregation.meta_training.window_gradient import window_gradient
from learned_aggregation.types import GradientEstimator, InnerProblem, Key, Metrics, Theta

EXPLODED = 1e10
"""A gradient of this norm says nothing; its square still fits in float32, also as a mean over problems."""


class BackpropState(NamedTuple):
    """inner: the state of the one inner problem; there is no second arm."""

    inner: Any
    episode: Episode


def truncated_backprop(problem: InnerProblem, schedule: EpisodeSchedule, std: float) -> GradientEstimator:
    """d/dtheta of mean_r(loss_r) over one window, with the state that enters it held constant.

    Exact for the window and without variance of its own, but biased for the episode: how theta shaped the
    incoming state is left out. Where training is chaotic the gradient can explode; set `schedule.clip`.

    Reverse mode through the window (`window_gradient`). A round is recomputed when its turn comes, so the memory is L
    states and the inside of one round. A window whose gradient is not finite, or longer than EXPLODED,
    counts as zero: its problem diverged and the normalised loss sits at its cap, or the gradient exploded.

    Args:
      schedule: the window L and the distribution of episode lengths.
      std: not used; there is no perturbation.
    References:
      Metz et al., "Understanding and correcting pathologies in the training of learned optimizers", ICML
      2019, arXiv:1810.10180 (its bias and its explosions).
    """

    def init(theta: Theta, data: Any, key: Key) -> BackpropState:
        episode_key, reset_key = jax.random.split(key)
        return BackpropState(problem.reset(theta, data, reset_key), start_midway(schedule, episode_key))

    def estimate(theta: Theta, state: BackpropState, data: Any, key: Key):
        unroll_key, reset_key, episode_key = jax.random.split(key, 3)
        restarted = BackpropState(problem.reset(theta, data, reset_key), start_episode(schedule, episode_key))
        inner, episode = restart_where(is_over(state.episode), restarted, state)

        gradient, end, loss = window_gradient(problem, theta, inner, data, unroll_key, schedule.window)
        usable = optax.tree.norm(gradient) < EXPLODED  # false for NaN, and for a norm that overflows
        gradient = jax.tree.map(lambda g: jnp.where(usable, g, 0.0), gradient)
        state = BackpropState(end, episode._replace(position=episode.position + 1))
        metrics: Metrics = {"meta_loss": loss}
        return gradient, state, metrics

    return GradientEstimator(init, estimate, arms=1)
