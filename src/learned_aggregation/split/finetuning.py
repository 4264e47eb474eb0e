"""Stage 2: the model trained through its bottleneck by federated rounds, with checkpoints that resume bit for bit."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learned_aggregation.devices.parallel import compiler_options
from learned_aggregation.federated.round import federated_round, init_server
from learned_aggregation.meta_testing.program import Rates
from learned_aggregation.problems.inner_problem import RoundSizes, draw_round
from learned_aggregation.runs.checkpoint import Checkpointer
from learned_aggregation.runs.interrupts import StopRequest
from learned_aggregation.split.bottlenecks.base import Autoencoder
from learned_aggregation.split.evaluation import evaluate
from learned_aggregation.split.work import (
    ClientSide,
    ServerSide,
    Sharing,
    SplitTraining,
    server_optimizer_state,
)
from learned_aggregation.types import Batch, FederatedData, Params, Parts, Server, Theta


class Setting(NamedTuple):
    """What stage 2 runs on.

    make_parts: rates -> the parts of a round. evaluation: split -> (chunks, mask), see `meta_testing.chunked`.
    """

    make_parts: Callable[[Rates], Parts]
    sharing: Sharing
    sizes: RoundSizes
    rates: Rates
    theta: Theta
    train: FederatedData
    evaluation: Mapping[str, tuple[Batch, Array]]
    seed: int


class Budget(NamedTuple):
    """rounds of the run; rounds between evaluations, and between checkpoints."""

    rounds: int
    eval_every: int
    save_every: int


class State(NamedTuple):
    """The whole of a run; a checkpoint holds exactly this.

    theta: (), as a run of stage 2 changes none. losses: [rounds]; evaluated: "{split}_{metric}" -> [E]; NaN where a
    round is still to come.
    """

    theta: tuple
    server: Server
    losses: Float[Array, "rounds"]
    evaluated: dict[str, Array]


class Curves(NamedTuple):
    """What a run did, on the host: losses [rounds], evaluations [E] at `eval_rounds`; NaN from where it diverged."""

    losses: np.ndarray
    eval_rounds: np.ndarray
    evaluated: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Saving:
    """Where a run's checkpoints go and what they carry."""

    checkpointer: Checkpointer
    config_text: str
    settings: Mapping[str, Any]


class Programs(NamedTuple):
    """rounds -> the compiled program of that many rounds; the compiled program of an evaluation."""

    rounds: Callable[[int], Any]
    measure: Callable[..., Any]


def start_server(
    theta: Theta,
    parts: Parts,
    training: SplitTraining,
    base: Params,
    autoencoder: Autoencoder,
    population: int,
) -> Server:
    """The server before the first round: the base model cut in two, the autoencoder where it belongs.

    Args:
      base: the whole model's parameters.
      autoencoder: leaves [C, ...] of what there is one of for each client.
      population: C.
    """
    sharing = training.sharing
    blocks, top = training.model.part(base)
    shared = autoencoder.encoder if sharing.one_encoder else ()
    params = ClientSide(blocks, shared if sharing.trained else ())
    decoder = autoencoder.decoder if sharing.one_decoder else ()
    half = ServerSide(top, decoder, () if sharing.trained else shared)
    server = init_server(theta, parts, params, server_optimizer_state(training, half), population)
    kept = server.clients.work
    if not sharing.one_encoder:
        kept = kept._replace(encoder=_arrays(autoencoder.encoder))
    if not sharing.one_decoder:
        kept = kept._replace(decoder=_arrays(autoencoder.decoder))
    return _arrays(server._replace(clients=server.clients._replace(work=kept)))


def _arrays(tree: Any) -> Any:
    return jax.tree.map(jnp.asarray, tree)


def evaluation_rounds(budget: Budget) -> np.ndarray:
    """[E]: 0, every `eval_every`-th round, and the last."""
    return np.unique([*range(0, budget.rounds, budget.eval_every), budget.rounds])


def finetune(
    programs: Programs,
    setting: Setting,
    server: Server,
    budget: Budget,
    saving: Saving,
    stop: StopRequest,
    on_progress: Callable[[int, dict[str, str]], None] = lambda done, figures: None,
) -> tuple[Server, Curves] | None:
    """Runs the rounds, from the latest checkpoint where there is one; None where `stop` ended it, saved.

    A run whose loss is no longer finite ends there, its last checkpoint the one before.

    Args:
      programs: of this setting, or of one that differs in its seed and data alone.
    Raises:
      UserError: a checkpoint that is damaged or of another run.
      RunError: the disk refused.
    """
    rounds = evaluation_rounds(budget)
    run, measure = programs
    state = _first_state(setting, server, budget, rounds, measure)
    start = saving.checkpointer.latest_step()
    if start is None:
        start = 0
    else:
        state = _restored(saving, state)
    begun, saved, key = time.monotonic(), start, jax.random.key(setting.seed)
    for index, end in enumerate(rounds.tolist()):
        if end <= start:
            continue
        first = int(rounds[index - 1])
        server, losses = run(end - first)(
            setting.theta, setting.train, setting.rates, key, first, state.server
        )
        if not bool(jnp.isfinite(losses).all()):
            break
        found = measure(setting.rates, server, setting.evaluation)
        state = State(
            (),
            server,
            state.losses.at[first:end].set(losses),
            {name: values.at[index].set(found[name]) for name, values in state.evaluated.items()},
        )
        figures = {name: f"{float(value):.4g}" for name, value in found.items() if name.startswith("test")}
        rate = (end - start) / (time.monotonic() - begun)
        on_progress(end, {"loss": f"{float(losses[-1]):.4g}", **figures, "rounds/s": f"{rate:.3g}"})
        if end // budget.save_every > saved // budget.save_every or stop.signal or end == budget.rounds:
            _save(saving, end, state)
            saved = end
        if stop.signal and end < budget.rounds:
            return None
    evaluated = {name: np.asarray(values) for name, values in state.evaluated.items()}
    return state.server, Curves(np.asarray(state.losses), rounds, evaluated)


def _save(saving: Saving, end: int, state: Any) -> None:
    """Any: the checkpointer takes whatever tree has a theta."""
    saving.checkpointer.save(end, state, saving.config_text, saving.settings)


def _restored(saving: Saving, state: Any) -> State:
    template: Any = jax.eval_shape(lambda: state)
    found: Any = saving.checkpointer.restore(template, settings=saving.settings)
    return found


def _first_state(
    setting: Setting, server: Server, budget: Budget, rounds: np.ndarray, measure: Callable[..., Any]
) -> State:
    found = measure(setting.rates, server, setting.evaluation)
    blank = jnp.full(len(rounds), jnp.nan)
    evaluated = {name: blank.at[0].set(value) for name, value in found.items()}
    return State((), server, jnp.full(budget.rounds, jnp.nan), evaluated)


def compiled(setting: Setting) -> Programs:
    """The programs of a setting, which seeds share: rates, data and keys are their arguments."""
    made: dict[int, Any] = {}

    def run(length: int) -> Any:
        def program(theta: Theta, train: FederatedData, rates: Rates, key: Any, first: Any, server: Server):
            parts = setting.make_parts(rates)

            def step(server: Server, index: Array):
                cohort_key, train_key = jax.random.split(jax.random.fold_in(key, index))
                cohort = draw_round(train, cohort_key, setting.sizes)
                return federated_round(theta, parts, server, *cohort, train_key)

            return jax.lax.scan(step, server, first + jnp.arange(length))

        if length not in made:
            made[length] = jax.jit(program, compiler_options=compiler_options())
        return made[length]

    def measure(rates: Rates, server: Server, evaluation: Mapping[str, tuple[Batch, Array]]):
        task = setting.make_parts(rates).task
        return {
            f"{split}_{name}": value
            for split, data in evaluation.items()
            for name, value in evaluate(task, setting.sharing, server, *data).items()
        }

    return Programs(run, jax.jit(measure, compiler_options=compiler_options()))
