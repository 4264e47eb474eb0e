"""Windows of rounds, and how long an episode lasts."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from learned_aggregation.types import InnerProblem, Key, Theta


class Episode(NamedTuple):
    """Where an inner problem stands between its reset and its end, both in windows."""

    position: Int[Array, ""]
    length: Int[Array, ""]


class EpisodeSchedule(NamedTuple):
    """Log-uniform episode lengths that are whole windows.

    min_length, max_length: in rounds, may be traced; window: L, in rounds.
    """

    min_length: float | Array
    max_length: float | Array
    window: int


def log_uniform_length(
    u: Float[Array, ""], min_length: float | Array, max_length: float | Array
) -> Int[Array, ""]:
    """trunc(exp(ln min + u (ln max - ln min))), u uniform in [0, 1): an episode's length in rounds.

    Source: Joseph et al., 2025, arXiv:2312.02204 (the log-uniform schedule of learned_optimization).
    """
    low, high = (jnp.log(jnp.asarray(bound, jnp.float32)) for bound in (min_length, max_length))
    return jnp.exp(low + u * (high - low)).astype(jnp.int32)


def start_episode(schedule: EpisodeSchedule, key: Key) -> Episode:
    """A new episode: a log-uniform length rounded to the nearest whole number of windows, at least one."""
    rounds = log_uniform_length(jax.random.uniform(key), schedule.min_length, schedule.max_length)
    windows = jnp.maximum(1, jnp.round(rounds / schedule.window).astype(jnp.int32))
    return Episode(jnp.int32(0), windows)


def start_midway(schedule: EpisodeSchedule, key: Key) -> Episode:
    """A first episode with a random part of it left, so that parallel problems are not in step."""
    length_key, offset_key = jax.random.split(key)
    episode = start_episode(schedule, length_key)
    return episode._replace(position=jax.random.randint(offset_key, (), 0, episode.length))


def is_over(episode: Episode) -> Array:
    return episode.position >= episode.length


def restart_where(over: Array, restarted: Any, state: Any) -> Any:
    """`restarted` where the episode of `state` is over, `state` itself elsewhere."""
    return jax.tree.map(lambda new, old: jnp.where(over, new, old), restarted, state)


def unroll(
    problem: InnerProblem, theta: Theta, state: Any, data: Any, key: Key, length: int
) -> tuple[Any, Float[Array, "L"]]:
    """`length` rounds as one scan.

    Returns:
      (final state, the meta-loss of each round [L]).
    """

    def step(state, round_key):
        return problem.advance(theta, state, data, round_key)

    return jax.lax.scan(step, state, jax.random.split(key, length))
