"""Meta-validation: theta's score on held-out problems, and the best theta so far."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from learned_aggregation.devices.parallel import compiler_options, everywhere, map_jobs, put
from learned_aggregation.meta_training.unroll import unroll
from learned_aggregation.types import InnerProblem, Key, MetaState, Metrics

SCORE = "meta_valid_loss"


class Best(NamedTuple):
    """score: the lowest so far, infinity before the first; waited: validations since then."""

    score: Float[Array, ""]
    waited: Int[Array, ""]


class Validation(NamedTuple):
    """every: outer steps between scores; patience: scores without a better one that end the run, 0: none do.

    score: state -> (state with its `validation` brought up to date, metrics: `meta_valid_loss`).
    """

    every: int
    patience: int
    score: Callable[[MetaState], tuple[MetaState, Metrics]]


def before_first() -> Best:
    return Best(jnp.float32(jnp.inf), jnp.int32(0))


def after(best: Best, score: Float[Array, ""]) -> Best:
    """The best one after another score; NaN is none."""
    better = score < best.score
    return Best(jnp.where(better, score, best.score), jnp.where(better, 0, best.waited + 1))


def make_score(
    problems: Mapping[str, InnerProblem],
    datas: Sequence[Any],
    *,
    rounds: int,
    num_seeds: int,
    key: Key,
    mesh: jax.sharding.Mesh,
    chunk: int | None = None,
) -> Callable[[MetaState], tuple[MetaState, Metrics]]:
    """The `score` of a Validation: the mean meta-loss over problems, seeds and rounds with theta unperturbed.

    Every call draws the same, so that two scores are paired. A score that is not finite is the worst there is.

    Args:
      datas: one data argument for each problem, on the mesh.
      rounds: of an episode.
      key: of all seeds.
      chunk: episodes computed at once on a device.
    """
    filled = -(-num_seeds // mesh.size) * mesh.size  # a multiple of the devices
    keys = jax.random.split(key, num_seeds)[jnp.arange(filled) % num_seeds]

    def program(theta, best: Best, datas, keys) -> tuple[Best, Metrics]:
        scores = {}
        for (label, problem), data in zip(problems.items(), datas, strict=True):

            def episode(shared, key, problem=problem):
                theta, data = shared
                reset_key, unroll_key = jax.random.split(key)
                state = problem.reset(theta, data, reset_key)
                return jnp.mean(unroll(problem, theta, state, data, unroll_key, rounds)[1])

            scores[label] = jnp.mean(map_jobs(episode, mesh, chunk)((theta, data), keys)[:num_seeds])
        score = jnp.mean(jnp.stack(list(scores.values())))
        by_problem = {f"{SCORE}/{label}": value for label, value in scores.items()} if len(scores) > 1 else {}
        return after(best, score), {SCORE: score} | by_problem

    whole = everywhere(mesh)
    compiled = jax.jit(program, out_shardings=whole, compiler_options=compiler_options())
    keys = put(keys, whole)

    def score(state: MetaState) -> tuple[MetaState, Metrics]:
        best, metrics = compiled(state.theta, state.validation, datas, keys)
        return state._replace(validation=best), metrics

    return score
