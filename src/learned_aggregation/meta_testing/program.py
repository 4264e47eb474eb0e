"""The meta-tester: many seeds and settings of one optimizer on one task, in one compiled program."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from learned_aggregation.data.streaming import Data, windows_of
from learned_aggregation.devices.parallel import compiler_options, everywhere, map_jobs
from learned_aggregation.meta_testing.evaluation import evaluate_split
from learned_aggregation.problems.inner_problem import RoundSizes, training_problem
from learned_aggregation.types import Batch, FederatedData, Key, Parts, Server, Task, Theta

Rates = Mapping[str, Any]
"""The float settings of a job, by name; traced, so that all jobs share one program."""


class Setting(NamedTuple):
    """What all jobs of a program have in common.

    make_parts: rates -> the parts of a round.
    """

    sizes: RoundSizes
    make_parts: Callable[[Rates], Parts]


class Shared(NamedTuple):
    """Device data that all jobs read. evaluation: split name -> (chunks, mask), see `chunked`.

    train: where it is a stream, each segment between two evaluations gets the next window, in every run the same.
    """

    theta: Theta
    train: Data
    evaluation: dict[str, tuple[Batch, Array]]


class Budget(NamedTuple):
    """rounds: of each job; eval_every: rounds between evaluations; chunk: jobs computed at once on a device."""

    rounds: int
    eval_every: int
    chunk: int | None = None


class Curves(NamedTuple):
    """What the jobs did, on the host.

    train_loss: [jobs, rounds], of rounds 1, 2, ...
    eval_rounds: [E], round 0 (before training) included.
    evaluated: "{split}_{metric}" -> [jobs, E].
    """

    train_loss: np.ndarray
    eval_rounds: np.ndarray
    evaluated: dict[str, np.ndarray]


class Program:
    """The compiled program of a setting: made once, run on any number of batches of jobs of one size.

    Args:
      mesh: the devices that the jobs are divided over.
    """

    def __init__(self, setting: Setting, budget: Budget, mesh: Mesh):
        self._setting, self._budget, self._mesh = setting, budget, mesh
        start = map_jobs(lambda s, job: _start(setting, s, *job), mesh, budget.chunk)
        self._start = jax.jit(start, compiler_options=compiler_options())
        self._segments: dict[int, Callable[..., Any]] = {}

    def run(
        self,
        shared: Shared,
        rates: Mapping[str, Float[np.ndarray, "jobs"]],
        seeds: np.ndarray,
        on_progress: Callable[[int], None] = lambda done: None,
    ) -> Curves:
        """Runs all jobs side by side, evaluating on the device every `budget.eval_every` rounds.

        A job's initial parameters and batches depend on its seed only: jobs of equal seed are paired,
        whatever their rates or optimizer.

        Args:
          rates: each float setting's value in each job.
          seeds: int [jobs].
          on_progress: called with the number of rounds done.
        """
        num_jobs, devices = len(seeds), self._mesh.size
        filled = -(-num_jobs // devices) * devices  # the last job is repeated until the devices are full
        fill = np.minimum(np.arange(filled), num_jobs - 1)
        keys = jax.vmap(jax.random.key)(jnp.asarray(seeds)[fill])
        filled_rates = {name: jnp.asarray(values, jnp.float32)[fill] for name, values in rates.items()}
        losses, eval_rounds = [], [0]
        with windows_of(shared.train, everywhere(self._mesh)) as windows:
            window = shared._replace(train=next(windows))
            state, metrics = self._start(window, (filled_rates, keys))
            evaluated = [metrics]
            while (done := eval_rounds[-1]) < self._budget.rounds:
                length = min(self._budget.eval_every, self._budget.rounds - done)
                segment = self._segment(length)
                state, loss, metrics = segment(window, filled_rates, keys, jnp.full(filled, done), state)
                window = shared._replace(train=next(windows))
                jax.block_until_ready(losses[-1:])  # no more than two segments, and their windows, in flight
                losses.append(loss)
                evaluated.append(metrics)
                eval_rounds.append(done + length)
                on_progress(eval_rounds[-1])
        losses, evaluated = jax.device_get((losses, evaluated))
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves, axis=1)[:num_jobs], *evaluated)
        return Curves(np.concatenate(losses, axis=1)[:num_jobs], np.array(eval_rounds), stacked)

    def _segment(self, length: int) -> Callable[..., Any]:
        if length not in self._segments:
            self._segments[length] = _segment(self._setting, length, self._mesh, self._budget.chunk)
        return self._segments[length]


def _start(setting: Setting, shared: Shared, rates: Rates, key: Key) -> tuple[Server, dict[str, Array]]:
    parts = setting.make_parts(rates)
    server = training_problem(parts, setting.sizes).reset(shared.theta, _datas(shared), key)
    return server, _evaluate(parts.task, shared, server)


def _segment(setting: Setting, length: int, mesh: Mesh, chunk: int | None) -> Callable[..., Any]:
    """The jitted program of `length` rounds and an evaluation, for all jobs."""

    def job(shared: Shared, one: tuple[Rates, Key, Array, Server]):
        rates, key, done, server = one
        parts = setting.make_parts(rates)
        problem = training_problem(parts, setting.sizes)

        def step(server: Server, round_index: Array):
            round_key = jax.random.fold_in(key, round_index)
            return problem.advance(shared.theta, server, _datas(shared), round_key)

        server, losses = jax.lax.scan(step, server, done + jnp.arange(length))
        return server, losses, _evaluate(parts.task, shared, server)

    mapped = map_jobs(job, mesh, chunk)

    def program(shared, rates, keys, done, state):
        return mapped(shared, (rates, keys, done, state))

    return jax.jit(program, donate_argnums=4, compiler_options=compiler_options())


def _datas(shared: Shared) -> dict[str, FederatedData]:
    """`Program.run` passes a window in place of a stream."""
    return {"train": cast(FederatedData, shared.train)}


def _evaluate(task: Task, shared: Shared, server: Server) -> dict[str, Array]:
    return {
        f"{split}_{metric}": value
        for split, (chunks, mask) in shared.evaluation.items()
        for metric, value in evaluate_split(task, server.params, server.model_state, chunks, mask).items()
    }
