"""A config's round: task, clients, compressors and aggregator as `Parts`, and what a round costs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optax

from learned_aggregation.build.data import TaskData
from learned_aggregation.build.rule import make_aggregator, rates_of
from learned_aggregation.config.resolve import Config
from learned_aggregation.errors import UserError
from learned_aggregation.federated import round as one_round
from learned_aggregation.federated.client_work import independently
from learned_aggregation.federated.clients import ADAPTIVE, DATA_PARALLEL, LOCAL_OPTIMIZERS
from learned_aggregation.federated.compressors import get_compressor
from learned_aggregation.federated.local_training import LocalTraining, local_training
from learned_aggregation.federated.mlp_sgd import sgd_training
from learned_aggregation.federated.parts import assemble
from learned_aggregation.meta_testing.program import Phase, Rates
from learned_aggregation.meta_testing.stored import Stored
from learned_aggregation.problems.freezeout import Change, FreezeOut, changes, check_freezeout, layer_indices
from learned_aggregation.problems.inner_problem import RoundSizes
from learned_aggregation.problems.mup import in_mup, infer_factors, shapes_of
from learned_aggregation.problems.phases import Length, all_params, enter, freezeout
from learned_aggregation.problems.task_augmentation import Augmentation, augment, augment_task
from learned_aggregation.registry import checked
from learned_aggregation.ssl.habits import accumulated
from learned_aggregation.tasks import probe_tasks
from learned_aggregation.types import Parts, Server, Task, Theta, Traffic


def round_sizes(config: Config) -> RoundSizes:
    steps = 1 if config.optimizer in DATA_PARALLEL else config.num_local_steps
    return RoundSizes(config.num_grads, steps, config.local_batch_size, config.dropout)


def make_local_training(config: Config, task: Task, rates: Rates) -> LocalTraining:
    """The local training of the config's clients."""
    if config.optimizer in DATA_PARALLEL:
        return sgd_training(task, 1.0, config.remat)
    rate = rates["local_learning_rate"]
    if config.local_optimizer == "sgd" and config.accum_iter == 1:
        return sgd_training(task, rate, config.remat)
    return local_training(task, make_local_optimizer(config, rate), config.keep_local_state, config.remat)


def make_local_optimizer(config: Config, rate: Any) -> optax.GradientTransformation:
    """The config's local optimizer at a rate, which may be traced.

    Raises:
      UserError: a function from outside that returns none.
    """
    name, parts = config.local_optimizer, config.accum_iter
    found = checked("local_optimizer", name, LOCAL_OPTIMIZERS[name](rate), ("init", "update"))
    return found if parts == 1 else accumulated(found, parts)


def _options_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != "type"}


def make_parts(
    config: Config, loaded: TaskData, drawn: Augmentation | None = None, frozen: int = 0
) -> Callable[[Rates], Parts]:
    """rates -> the parts of a round, in the config's parametrization.

    Args:
      drawn: of an episode with task augmentation.
      frozen: with `freezing`, how many layers are.
    Raises:
      UserError: mup with a model that is not named by its widths.
    """
    up = get_compressor(config.compressor, **config.compressor_options)
    down = get_compressor(config.server_compressor["type"], **_options_of(config.server_compressor))
    in_units, plan = _parametrization(config, loaded, drawn), freezing_plan(config)

    def parts(rates: Rates) -> Parts:
        clients = independently(make_local_training(config, loaded.task, rates))
        aggregator = make_aggregator(config, rates)
        plain = assemble(loaded.task, clients, aggregator, compressor=up, server_compressor=down)
        made = in_units(plain if drawn is None else augment(plain, drawn))
        return made if plan is None else freezeout(made, plan, _length(config), frozen)

    return parts


def freezing_plan(config: Config) -> FreezeOut | None:
    """The config's FreezeOut, None where nothing freezes."""
    return None if not config.freezing else check_freezeout("freezing", config.freezing)


def frozen_changes(config: Config, loaded: TaskData) -> tuple[Change, ...]:
    """At which rounds the set of frozen layers changes; (Change(0, 0),) where nothing freezes."""
    plan = freezing_plan(config)
    if plan is None:
        return (Change(0, 0),)
    layers = layer_indices(shapes_of(loaded.task), plan)[1]
    return changes(plan, layers, *_length(config))


def _length(config: Config) -> Length:
    return Length(config.num_inner_steps, round_sizes(config).num_local_steps)


def later_phases(config: Config, loaded: TaskData, population: int) -> tuple[Phase, ...]:
    """The phases of a meta-test after its first.

    Raises:
      UserError: features that are to be stored of a run that has none.
    """
    plan = freezing_plan(config)
    if plan is None:
        return ()
    found = frozen_changes(config, loaded)[1:]
    stored, prefix = _stored(config, loaded.task, found) if plan.store_features else None, loaded.task.prefix

    def phase(change: Change) -> Phase:
        def entered(theta: Theta, parts: Parts, server: Server) -> Server:
            return enter(theta, parts, plan, change.frozen, server, population)

        there = prefix is not None and change.frozen >= prefix.layers
        parts = make_parts(config, loaded, frozen=change.frozen)
        return Phase(change.round, parts, entered, stored if there else None)

    return tuple(phase(change) for change in found)


def _stored(config: Config, task: Task, later: Sequence[Change]) -> Stored:
    where, prefix = "freezing.store_features", task.prefix
    if prefix is None:
        raise UserError(
            f"{where}: expected a task whose first blocks see whole images, got {task.name!r} without. Set "
            "objective='localmim' and objective_options.mask_after, or leave store_features out."
        )
    if not any(change.frozen >= prefix.layers for change in later):
        most = max((change.frozen for change in later), default=0)
        raise UserError(
            f"{where}: expected a run in which the embedding and the first {prefix.layers - 1} blocks freeze "
            f"before its last round, got {most} frozen layers at most. Lower objective_options.mask_after or "
            "freezing.t0, or leave store_features out."
        )
    return Stored(all_params, prefix.fields, where, config.device_data_mb)


def _parametrization(
    config: Config, loaded: TaskData, drawn: Augmentation | None
) -> Callable[[Parts], Parts]:
    if config.parametrization == "standard":
        return lambda parts: parts
    task = loaded.task if drawn is None else augment_task(loaded.task, drawn)
    probes = probe_tasks(task.name, config.mup_base_width, loaded.dataset, config.objective)
    factors = infer_factors(*(shapes_of(probe) for probe in (task, *probes)))
    adaptive = config.local_optimizer in ADAPTIVE and config.optimizer not in DATA_PARALLEL
    return lambda parts: in_mup(parts, factors, adaptive)


def traffic(config: Config, loaded: TaskData, frozen: int = 0) -> Traffic:
    """Bits per client per round under the config's compressors, with so many layers frozen."""
    parts = make_parts(config, loaded, frozen=frozen)(rates_of(config))
    return one_round.traffic(parts, shapes_of(parts.task))


def traffic_changes(config: Config, loaded: TaskData) -> list[tuple[int, Traffic]]:
    """(from which round on, bits per client per round), of each phase of the run."""
    found = frozen_changes(config, loaded)
    return [(change.round, traffic(config, loaded, change.frozen)) for change in found]


def examples_note(config: Config) -> str:
    """How many examples a round takes, to compare rounds fairly."""
    sizes = round_sizes(config)
    return (
        f"{config.optimizer}: {sizes.num_grads} clients x {sizes.num_local_steps} local steps x "
        f"{sizes.local_batch_size} examples = {sizes.examples} examples a round"
    )
