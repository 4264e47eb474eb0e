"""The meta-tester: many seeds and settings of one optimizer on one task, in one compiled program."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from learned_aggregation.data.streaming import Data, windows_of
from learned_aggregation.devices.parallel import compiler_options, everywhere, map_jobs
from learned_aggregation.meta_testing.evaluation import evaluate_split
from learned_aggregation.meta_testing.stored import Stored, check_size, storing
from learned_aggregation.problems.inner_problem import RoundSizes, training_problem
from learned_aggregation.types import (
    Batch,
    FederatedData,
    Key,
    ModelState,
    Params,
    Parts,
    Server,
    Task,
    Theta,
)

Rates = Mapping[str, Any]
"""The float settings of a job, by name; traced, so that all jobs share one program."""


class Probe(NamedTuple):
    """What is measured of a trained model besides its task's metrics, more rarely.

    measure: (task, params, model_state, seed's key, data) -> metrics of the test split by name, "test_...".
    data: what all jobs' measures read, on the device.
    """

    measure: Callable[[Task, Params, ModelState, Key, Any], dict[str, Array]]
    data: Any


class Phase(NamedTuple):
    """What a run goes on with from a round on (0 is the first).

    make_parts: rates -> the parts of a round.
    enter: (theta, these parts, the server of the phase before) -> the server that this one starts with.
    stored: further fields of the training examples, computed where the first phase that has it begins, or the run is
      resumed; they are no part of what is saved.
    """

    start: int
    make_parts: Callable[[Rates], Parts]
    enter: Callable[[Theta, Parts, Server], Server]
    stored: Stored | None = None


class Saved(NamedTuple):
    """A run between two segments, for `Saving`; on the device.

    done: rounds. state: the servers. losses, evaluated: so far, [jobs, done] and "{split}_{metric}" -> [jobs, E].
    """

    done: int
    state: Server
    losses: Float[Array, "jobs done"]
    evaluated: dict[str, Float[Array, "jobs E"]]


class Saving(NamedTuple):
    """Where a run is kept while it goes on.

    load: (done -> a Saved of shapes after that many rounds) -> the last one that was saved, None where there is none.
    save: called after every segment. stop: whether the run is to end here, saved.
    """

    load: Callable[[Callable[[int], Saved]], Saved | None]
    save: Callable[[Saved], None]
    stop: Callable[[], bool]


class Setting(NamedTuple):
    """What all jobs of a program have in common.

    make_parts: rates -> the parts of a round. later: the phases after the first, in order.
    """

    sizes: RoundSizes
    make_parts: Callable[[Rates], Parts]
    later: tuple[Phase, ...] = ()
    probe: Probe | None = None


class Shared(NamedTuple):
    """Device data that all jobs read. evaluation: split name -> (chunks, mask), see `chunked`.

    train: where it is a stream, each segment between two evaluations gets the next window, in every run the same.
    """

    theta: Theta
    train: Data
    evaluation: dict[str, tuple[Batch, Array]]


class Budget(NamedTuple):
    """rounds: of each job; eval_every: rounds between evaluations; chunk: jobs computed at once on a device.

    probe_every: rounds between probes, which are taken where an evaluation is; None: before the first round and after
    the last.
    """

    rounds: int
    eval_every: int
    chunk: int | None = None
    probe_every: int | None = None


class Curves(NamedTuple):
    """What the jobs did, on the host.

    train_loss: [jobs, rounds], of rounds 1, 2, ...
    eval_rounds: [E], round 0 (before training) included.
    evaluated: "{split}_{metric}" -> [jobs, E].
    probed: "test_{probe}" -> [jobs, E], NaN where no probe was taken.
    """

    train_loss: np.ndarray
    eval_rounds: np.ndarray
    evaluated: dict[str, np.ndarray]
    probed: Mapping[str, np.ndarray] = MappingProxyType({})


class Program:
    """The compiled program of a setting: made once, run on any number of batches of jobs of one size.

    Args:
      mesh: the devices that the jobs are divided over.
    """

    def __init__(self, setting: Setting, budget: Budget, mesh: Mesh):
        self._setting, self._budget, self._mesh = setting, budget, mesh
        self._phases = (Phase(0, setting.make_parts, _stay), *setting.later)
        self._starting = map_jobs(lambda s, job: _start(setting, s, *job), mesh, budget.chunk)
        self._start = jax.jit(self._starting, compiler_options=compiler_options())
        self._segments: dict[tuple[int, int], Callable[..., Any]] = {}
        self._probes: dict[int, Callable[..., Any]] = {}
        self._storing = {
            phase.stored: storing(phase.stored, mesh, budget.chunk) for phase in self._phases if phase.stored
        }

    def run(
        self,
        shared: Shared,
        rates: Mapping[str, Float[np.ndarray, "jobs"]],
        seeds: np.ndarray,
        on_progress: Callable[[int], None] = lambda done: None,
        saving: Saving | None = None,
        on_end: Callable[[Task, Server], None] | None = None,
    ) -> Curves | None:
        """Runs all jobs side by side, evaluating on the device every `budget.eval_every` rounds.

        A job's initial parameters and batches depend on its seed only: jobs of equal seed are paired,
        whatever their rates or optimizer. A change of phase is evaluated too.

        Args:
          rates: each float setting's value in each job.
          seeds: int [jobs].
          on_progress: called with the number of rounds done.
          saving: where the run is kept; it goes on from there. Not for a stream, which starts at its beginning.
          on_end: called with the task and the servers, leaves [jobs, ...], after the last round.
        Returns:
          None where `saving.stop` ended it.
        Raises:
          UserError: stored fields that are too large, a state that a phase cannot take over.
        """
        num_jobs, devices = len(seeds), self._mesh.size
        filled = -(-num_jobs // devices) * devices  # the last job is repeated until the devices are full
        fill = np.minimum(np.arange(filled), num_jobs - 1)
        keys = jax.vmap(jax.random.key)(jnp.asarray(seeds)[fill])
        filled_rates = {name: jnp.asarray(values, jnp.float32)[fill] for name, values in rates.items()}
        jobs = (filled_rates, keys)
        with windows_of(shared.train, everywhere(self._mesh)) as windows:
            window = shared._replace(train=next(windows))
            self._check_phases(window, jobs)
            resumed = None if saving is None else saving.load(lambda done: self._shapes(window, jobs, done))
            if resumed is None:
                state, metrics = self._start(window, jobs)
                losses, evaluated, done = [], [metrics | self._probe(0, jobs, state)], 0
            else:
                state, done = resumed.state, resumed.done
                losses = [resumed.losses] if done else []
                at = range(len(self._rounds(done)))
                evaluated = [{name: v[:, e] for name, v in resumed.evaluated.items()} for e in at]
            held, fields = None, {}
            for following in self._rounds(self._budget.rounds):
                if following <= done:
                    continue
                phase = self._phase(done)
                if phase and self._phases[phase].start == done:
                    state = self._enter(phase)(window, jobs, state)
                wanted = self._phases[phase].stored
                if wanted is not held:
                    held, fields = (
                        wanted,
                        {} if wanted is None else self._storing[wanted](window.train, state),
                    )
                segment = self._segment(phase, following - done)
                rounds = jnp.full(filled, done)
                state, loss, metrics = segment(window, filled_rates, keys, rounds, state, fields)
                window = shared._replace(train=next(windows))
                jax.block_until_ready(losses[-1:])  # no more than two segments, and their windows, in flight
                losses.append(loss)
                done = following
                evaluated.append(metrics | self._probe(done, jobs, state))
                on_progress(done)
                if saving is not None:
                    saving.save(Saved(done, state, jnp.concatenate(losses, axis=1), _stacked(evaluated)))
                    if saving.stop() and done < self._budget.rounds:
                        return None
        if on_end is not None:
            task = (
                self._phases[self._phase(done - 1)]
                .make_parts({n: v[0] for n, v in filled_rates.items()})
                .task
            )
            on_end(task, jax.tree.map(lambda leaf: leaf[:num_jobs], state))
        losses, evaluated = jax.device_get((losses, evaluated))
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves, axis=1)[:num_jobs], *evaluated)
        rounds = np.array(self._rounds(self._budget.rounds))
        names = () if self._setting.probe is None else self._probe_names(jobs, state)
        probed = {name: stacked.pop(name) for name in names}
        return Curves(np.concatenate(losses, axis=1)[:num_jobs], rounds, stacked, probed)

    def _check_phases(self, shared: Shared, jobs: tuple[Rates, Array]) -> None:
        """Refuses at the start what a later phase would refuse; nothing is computed."""
        if len(self._phases) == 1:
            return
        state = jax.eval_shape(self._starting, shared, jobs)[0]
        for stored in self._storing:
            check_size(stored, self._mesh, _datas(shared)["train"], state)
        for index in range(1, len(self._phases)):
            state = jax.eval_shape(self._enter(index), shared, jobs, state)

    def _rounds(self, last: int) -> list[int]:
        """The evaluated rounds up to `last`: 0, every `eval_every`, each change of phase, the last of the run."""
        budget = self._budget
        changes = (phase.start for phase in self._phases)
        found = {*range(0, budget.rounds, budget.eval_every), *changes, budget.rounds}
        return sorted(at for at in found if at <= min(last, budget.rounds))

    def _phase(self, done: int) -> int:
        """Which phase the round after `done` rounds belongs to."""
        return max(i for i, phase in enumerate(self._phases) if phase.start <= done)

    def _enter(self, index: int) -> Callable[..., Any]:
        """Its state is of the phase before; done rarely, so not donated."""
        phase = self._phases[index]

        def job(shared: Shared, one: tuple[tuple[Rates, Key], Server]):
            (rates, _), server = one
            return phase.enter(shared.theta, phase.make_parts(rates), server)

        mapped = map_jobs(job, self._mesh, self._budget.chunk)
        return jax.jit(lambda shared, jobs, state: mapped(shared, (jobs, state)))

    def _segment(self, phase: int, length: int) -> Callable[..., Any]:
        if (phase, length) not in self._segments:
            setting = self._setting._replace(make_parts=self._phases[phase].make_parts)
            self._segments[phase, length] = _segment(setting, length, self._mesh, self._budget.chunk)
        return self._segments[phase, length]

    def _probe(self, done: int, jobs: tuple[Rates, Array], state: Server) -> dict[str, Array]:
        """The probes' metrics after `done` rounds; NaN where it is not their turn."""
        probe, budget = self._setting.probe, self._budget
        if probe is None:
            return {}
        phase = self._phase(max(done - 1, 0))

        def job(data: Any, one: tuple[tuple[Rates, Key], Server]):
            (rates, key), server = one
            task = self._phases[phase].make_parts(rates).task
            return probe.measure(task, server.params, server.model_state, key, data)

        if phase not in self._probes:
            self._probes[phase] = jax.jit(map_jobs(job, self._mesh, self._budget.chunk))
        every = budget.probe_every
        if done in (0, budget.rounds) or (every is not None and done % every == 0):
            return self._probes[phase](probe.data, (jobs, state))
        shapes = jax.eval_shape(self._probes[phase], probe.data, (jobs, state))
        return {name: jnp.full(shape.shape, jnp.nan, shape.dtype) for name, shape in shapes.items()}

    def _probe_names(self, jobs: tuple[Rates, Array], state: Server) -> list[str]:
        last = self._budget.rounds
        return sorted(jax.eval_shape(lambda jobs, state: self._probe(last, jobs, state), jobs, state))

    def _shapes(self, shared: Shared, jobs: tuple[Rates, Array], done: int) -> Saved:
        """What is saved after `done` rounds; nothing is computed."""

        def saved(shared: Shared, jobs: tuple[Rates, Array]) -> Saved:
            state, metrics = self._starting(shared, jobs)
            metrics |= self._probe(0, jobs, state)
            for index in range(1, self._phase(max(done - 1, 0)) + 1):
                state = self._enter(index)(shared, jobs, state)
            count = len(jobs[1])
            evaluated = {name: jnp.zeros((count, len(self._rounds(done)))) for name in metrics}
            return Saved(done, state, jnp.zeros((count, done)), evaluated)

        return jax.eval_shape(saved, shared, jobs)._replace(done=done)


def _stay(theta: Theta, parts: Parts, server: Server) -> Server:
    return server


def _stacked(evaluated: list[dict[str, Array]]) -> dict[str, Array]:
    return jax.tree.map(lambda *values: jnp.stack(values, axis=1), *evaluated)


def _start(setting: Setting, shared: Shared, rates: Rates, key: Key) -> tuple[Server, dict[str, Array]]:
    parts = setting.make_parts(rates)
    server = training_problem(parts, setting.sizes).reset(shared.theta, _datas(shared), key)
    return server, _evaluate(parts.task, shared, server)


def _segment(setting: Setting, length: int, mesh: Mesh, chunk: int | None) -> Callable[..., Any]:
    """The jitted program of `length` rounds and an evaluation, for all jobs."""

    def job(shared: Shared, one: tuple[Rates, Key, Array, Server, Batch]):
        rates, key, done, server, fields = one
        parts = setting.make_parts(rates)
        problem = training_problem(parts, setting.sizes)

        def step(server: Server, round_index: Array):
            round_key = jax.random.fold_in(key, round_index)
            return problem.advance(shared.theta, server, _datas(shared, fields), round_key)

        server, losses = jax.lax.scan(step, server, done + jnp.arange(length))
        return server, losses, _evaluate(parts.task, shared, server)

    mapped = map_jobs(job, mesh, chunk)

    def program(shared, rates, keys, done, state, fields):
        return mapped(shared, (rates, keys, done, state, fields))

    return jax.jit(program, donate_argnums=4, compiler_options=compiler_options())


def _datas(shared: Shared, fields: Mapping[str, Array] = MappingProxyType({})) -> dict[str, FederatedData]:
    """`Program.run` passes a window in place of a stream; `fields` are a job's further ones of its examples."""
    train = cast(FederatedData, shared.train)
    return {"train": train._replace(examples={**train.examples, **fields})}


def _evaluate(task: Task, shared: Shared, server: Server) -> dict[str, Array]:
    return {
        f"{split}_{metric}": value
        for split, (chunks, mask) in shared.evaluation.items()
        for metric, value in evaluate_split(task, server.params, server.model_state, chunks, mask).items()
    }
