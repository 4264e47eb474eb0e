"""The rounds of a run with generators, from the latest checkpoint where there is one; bit for bit the same."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learned_aggregation.devices.parallel import compiler_options
from learned_aggregation.errors import RunError
from learned_aggregation.federated.round import federated_round
from learned_aggregation.generators.samples import Pool
from learned_aggregation.generators.server import ServerState
from learned_aggregation.problems.inner_problem import RoundSizes, draw_round
from learned_aggregation.runs.checkpoint import Checkpointer
from learned_aggregation.runs.interrupts import StopRequest
from learned_aggregation.types import Batch, FederatedData, Key, Metrics, Parts, Server, Task, Theta


class Leaving(NamedTuple):
    """client takes part in rounds up to and including `after`; None: nobody leaves."""

    client: int | None
    after: int

    def present(self, clients: int, number: int) -> np.ndarray:
        """[C]: who takes part in round `number`, from 1.

        Example:
          >>> Leaving(1, 2).present(3, 3).tolist()
          [1.0, 0.0, 1.0]
        """
        here = np.ones(clients, np.float32)
        if self.client is not None and number > self.after:
            here[self.client] = 0
        return here


class Setting(NamedTuple):
    """What the rounds run on. evaluation: split -> (chunks, mask), see `meta_testing.chunked`."""

    parts: Parts
    sizes: RoundSizes
    theta: Theta
    train: FederatedData
    evaluation: Mapping[str, tuple[Batch, Array]]
    num_classes: int
    leaving: Leaving
    rounds: int
    save_every: int
    seed: int


class State(NamedTuple):
    """The whole of a run; a checkpoint holds exactly this.

    losses: [R]; evaluated: "{split}_{metric}" -> [R + 1], and "{split}_class_accuracy" -> [R + 1, Y]; generator_losses:
    [R, C]. NaN where a round is still to come.
    """

    theta: tuple
    server: Server
    losses: Float[Array, "R"]
    evaluated: dict[str, Array]
    generator_losses: Float[Array, "R C"]


@dataclasses.dataclass(frozen=True)
class Saving:
    """Where a run's checkpoints go and what they carry."""

    checkpointer: Checkpointer
    config_text: str
    settings: Mapping[str, Any]


class Programs(NamedTuple):
    """The compiled round and evaluation of a setting; runs that differ in data, seed or pool alone share them."""

    round: Callable[..., Any]
    measure: Callable[..., Any]


def compiled(setting: Setting) -> Programs:
    """The programs; data, theta and keys are their arguments."""
    parts, sizes, classes = setting.parts, setting.sizes, setting.num_classes

    def one_round(theta: Theta, train: FederatedData, server: Server, present: Array, key: Key):
        cohort_key, train_key = jax.random.split(key)
        batches, weight, ids = draw_round(train, cohort_key, sizes)
        return federated_round(theta, parts, server, batches, weight * present[ids], ids, train_key)

    def measure(server: Server, evaluation: Mapping[str, tuple[Batch, Array]]) -> Metrics:
        return {
            f"{split}_{name}": value
            for split, (chunks, mask) in evaluation.items()
            for name, value in evaluated(parts.task, server, chunks, mask, classes).items()
        }

    options = compiler_options()
    return Programs(jax.jit(one_round, compiler_options=options), jax.jit(measure, compiler_options=options))


def evaluated(task: Task, server: Server, chunks: Batch, mask: Array, classes: int) -> Metrics:
    """Means of the task's metrics, and `class_accuracy` [Y]: NaN for a class that is not there."""

    def one(inputs: tuple[Batch, Array]):
        batch, weight = inputs
        found = task.evaluate(server.params, server.model_state, jax.random.key(0), batch)
        chosen = jax.nn.one_hot(batch["label"], classes) * weight[:, None]
        sums = {name: jnp.sum(values * weight) for name, values in found.items()}
        return sums, chosen.T @ found["accuracy"], chosen.sum(axis=0)

    sums, right, count = jax.tree.map(lambda leaf: leaf.sum(axis=0), jax.lax.map(one, (chunks, mask)))
    means = {name: value / jnp.sum(mask) for name, value in sums.items()}
    return {**means, "class_accuracy": jnp.where(count > 0, right / count, jnp.nan)}


def run_rounds(
    programs: Programs,
    setting: Setting,
    server: Server,
    saving: Saving,
    stop: StopRequest,
    before: Callable[[int, np.ndarray], Pool | None] = lambda number, present: None,
    after: Callable[[int, State], None] = lambda number, state: None,
) -> State | None:
    """All rounds, those that a checkpoint has left out; None where `stop` ended them, saved.

    Args:
      before: (round from 1, who is present [C]) -> the server's new pool of samples; None: as it was.
      after: (round, the state after it); called for rounds that are run here.
    Raises:
      UserError: a checkpoint that is damaged or of another run.
      RunError: the disk refused, or the parameters are no longer finite.
    """
    clients = setting.train.rows.shape[0]
    state = _first(programs, setting, server, clients)
    done = saving.checkpointer.latest_step()
    if done is None:
        # The start too: generators that were loaded may be overwritten before the next checkpoint.
        _save(saving, 0, state)
        done = 0
    else:
        template: Any = jax.eval_shape(lambda: state)
        restored: Any = saving.checkpointer.restore(template, settings=saving.settings)
        state = restored
    for number in range(done + 1, setting.rounds + 1):
        present = setting.leaving.present(clients, number)
        server = state.server
        pool = before(number, present)
        if pool is not None:
            server = server._replace(work=ServerState(pool, server.work.params))
        key = jax.random.fold_in(jax.random.key(setting.seed), number)
        server, loss = programs.round(setting.theta, setting.train, server, present, key)
        found = programs.measure(server, setting.evaluation)
        state = State(
            (),
            server,
            state.losses.at[number - 1].set(loss),
            {name: values.at[number].set(found[name]) for name, values in state.evaluated.items()},
            state.generator_losses.at[number - 1].set(_generator_losses(server, clients)),
        )
        after(number, state)
        if number % setting.save_every == 0 or stop.signal or number == setting.rounds:
            _save(saving, number, state)
        if stop.signal and number < setting.rounds:
            return None
    return state


def _save(saving: Saving, number: int, state: Any) -> None:
    """Any: the checkpointer takes whatever tree has a theta.

    Raises:
      RunError: the disk refused, or the adapters are not finite; what was saved before is untouched.
    """
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(state.server.params))):
        raise RunError(
            f"round {number}: expected finite adapters, got NaN or infinity. Lower local_learning_rate or "
            "global_model_train_learning_rate; the last checkpoint is of a round before."
        )
    saving.checkpointer.save(number, state, saving.config_text, saving.settings)


def _generator_losses(server: Server, clients: int) -> Array:
    kept = server.clients.work
    return kept.loss if hasattr(kept, "generator") else jnp.full(clients, jnp.nan)


def _first(programs: Programs, setting: Setting, server: Server, clients: int) -> State:
    found = programs.measure(server, setting.evaluation)
    blank = {
        name: jnp.full((setting.rounds + 1, *value.shape), jnp.nan).at[0].set(value)
        for name, value in found.items()
    }
    missing = jnp.full((setting.rounds, clients), jnp.nan)
    return State((), server, jnp.full(setting.rounds, jnp.nan), blank, missing)


def classes_of(rows: Sequence[np.ndarray], label: np.ndarray, clients: Sequence[int]) -> list[int]:
    """The classes that these clients hold.

    Example:
      >>> classes_of([np.array([0]), np.array([1, 2])], np.array([5, 7, 6]), [1])
      [6, 7]
    """
    return sorted({int(one) for client in clients for one in label[rows[client]]})
