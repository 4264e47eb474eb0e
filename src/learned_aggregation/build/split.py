"""A config's split run: the cut model, its base, its autoencoder (stage 1) and the setting of stage 2."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_aggregation.build.data import Loader, TaskData, data_options, train_data
from learned_aggregation.build.parts import make_local_optimizer, round_sizes
from learned_aggregation.build.rule import learned_theta, make_aggregator, rates_of
from learned_aggregation.config.resolve import Config, with_settings
from learned_aggregation.data import load_dataset
from learned_aggregation.data.cache import cache_dir
from learned_aggregation.data.digest import data_digest, is_a_users
from learned_aggregation.data.partitions import partition, split_labels
from learned_aggregation.data.streaming import evaluation_examples
from learned_aggregation.errors import UserError
from learned_aggregation.federated import round as one_round
from learned_aggregation.federated.clients import DATA_PARALLEL
from learned_aggregation.federated.compressors import get_compressor
from learned_aggregation.federated.parts import assemble
from learned_aggregation.meta_testing.evaluation import chunked
from learned_aggregation.meta_testing.program import Rates
from learned_aggregation.problems.inner_problem import population
from learned_aggregation.split.base import Schooling, check_same_inputs, load_base, make_base
from learned_aggregation.split.bottlenecks import BOTTLENECKS
from learned_aggregation.split.boundary import Boundary, Count, count
from learned_aggregation.split.finetuning import Budget, Setting, start_server
from learned_aggregation.split.model import SplitModel, split_model
from learned_aggregation.split.options import DISTRIBUTED, SplitOptions
from learned_aggregation.split.stage_one import Data, Plan, Stage, Whose, stage_one, with_decoders
from learned_aggregation.split.work import Sharing, SplitTraining, split_task, split_work
from learned_aggregation.tasks.names import ALIASES, parse_task_name
from learned_aggregation.types import FederatedData, Params, Parts, Traffic

SPLITS = ("outer_valid", "test")
SERVER_RATE = "server_learning_rate"
EVALUATIONS = 20
"""About how many evaluations a run has when `eval_every` is not given."""


class Case(NamedTuple):
    """One of the runs to compare: its label, and the config and options that it runs with."""

    label: str
    config: Config
    options: SplitOptions


class Stages(NamedTuple):
    """A case of one seed, ready for stage 2.

    stage: what stage 1 found. traffic: bits per client per round of stage 2; crossed: of one example at the cut.
    rows: of each client's examples, in `setting.train`.
    """

    setting: Setting
    budget: Budget
    server: Any
    stage: Stage
    traffic: Traffic
    crossed: Count
    rows: list[np.ndarray]
    parts: Parts


def split_cases(config: Config) -> list[Case]:
    """The config's cases, or the one run that it is without them.

    Raises:
      UserError: settings of a case that do not fit each other, a learned rule without its theta.
    """
    listed = config.split["cases"] or [{"label": config.optimizer}]
    return [_case(config, dict(case)) for case in listed]


def _case(config: Config, case: dict[str, Any]) -> Case:
    label = case.pop("label")
    options = {**config.split, "cases": []}
    options |= {name: case.pop(name) for name in list(case) if name in options}
    made = with_settings(replace(config, split=options), case)
    return Case(label, made, SplitOptions(**options))


def check_case(case: Case, loader: Loader) -> None:
    """Refuses what cannot run before anything does: a missing data set, a layer outside the model, no theta."""
    [task] = _one_task(case.config)
    data = loader.load(case.config, task)
    model = split_model(task, data.dataset, case.options.split_layer)
    BOTTLENECKS[case.options.bottleneck](model.halves.cut, case.options.latent_dim)
    learned_theta(case.config)


def digests(cases: list[Case], loader: Loader) -> dict[str, str | None]:
    """What tells the data of all cases from other data: of the task's by its name, of those of the stages by theirs."""
    found: dict[str, str | None] = {}
    for config, options in ((case.config, case.options) for case in cases):
        [task] = _one_task(config)
        loaded = loader.load(config, task)
        if task not in found:
            found[task] = data_digest(loaded.dataset)
        model = split_model(task, loaded.dataset, options.split_layer, config.remat)
        named = (options.ae_dataset, None if options.base_path else options.base_dataset)
        others = (name for name in named if name and name != loaded.dataset.name and is_a_users(name))
        for name in others:
            if name not in found:
                found[name] = data_digest(_other(config, model, loaded, name)[1])
    return found


def _one_task(config: Config) -> tuple[str, ...]:
    if len(config.tasks) != 1:
        raise UserError(f"task: expected one task in a split run, got {list(config.tasks)}. Name one.")
    return config.tasks


def prepare(case: Case, seed: int, loader: Loader, say: Callable[[str], None]) -> Stages:
    """Makes or loads the base, finds or trains the autoencoder, and sets up stage 2, for one seed.

    Raises:
      UserError, RunError: whatever of it cannot be done.
    """
    config, options = replace(case.config, seed=seed), case.options
    [task] = _one_task(config)
    loaded = loader.load(config, task)
    model = split_model(task, loaded.dataset, options.split_layer, config.remat)
    boundary = make_boundary(model, options)
    base = _base(config, options, model, loaded, say)
    train = train_data(config, loaded)
    if not isinstance(train, FederatedData):
        raise UserError(
            "stream: expected data that fits device_data_mb in a split run, got a stream. Raise device_data_mb."
        )
    clients = population(train, config.num_grads)
    rows = loaded.rows if len(loaded.rows) == clients else loaded.rows * clients
    stage = _stage_one(config, options, model, boundary, base, loaded, rows, say)
    if not (options.one_decoder or options.ae_frozen):
        stage = with_decoders(stage, clients)
    sharing = Sharing(stage.whose.one_encoder, stage.whose.one_decoder, not options.ae_frozen)
    make_parts = _parts(config, options, model, boundary, sharing)
    rates = _rates(config, options)
    parts = make_parts(rates)
    theta = learned_theta(config)
    training = SplitTraining(model, boundary, sharing, *_optimizers(config, rates), config.keep_local_state)
    server = start_server(theta, parts, training, base, stage.autoencoder, clients)
    evaluation = {}
    for split in SPLITS:
        held_out = loaded.dataset.splits[split]
        examples = evaluation_examples(split, held_out, config.eval_examples, config.device_data_mb)
        evaluation[split] = chunked(examples, config.eval_chunk)
    traced = {name: jnp.float32(value) for name, value in rates.items()}
    setting = Setting(make_parts, sharing, round_sizes(config), traced, theta, train, evaluation, seed)
    every = config.eval_every or max(1, config.num_inner_steps // EVALUATIONS)
    budget = Budget(config.num_inner_steps, every, config.save_iter)
    sent = one_round.traffic(parts, server.params)
    return Stages(setting, budget, server, stage, sent, count(model, boundary), rows, parts)


def make_boundary(model: SplitModel, options: SplitOptions) -> Boundary:
    """The cut's bottleneck and compressors."""
    up, down = (
        get_compressor(entry["type"], **{k: v for k, v in entry.items() if k != "type"})
        for entry in (options.latent_compressor, options.gradient_compressor)
    )
    bottleneck = BOTTLENECKS[options.bottleneck](model.halves.cut, options.latent_dim)
    return Boundary(bottleneck, options.class_token, up, down, options.labels_at)


def _rates(config: Config, options: SplitOptions) -> dict[str, float]:
    return {**rates_of(config), SERVER_RATE: options.server_learning_rate or config.local_learning_rate}


def _optimizers(
    config: Config, rates: Rates
) -> tuple[optax.GradientTransformation, optax.GradientTransformation]:
    """(the clients', the server half's)."""
    make = partial(make_local_optimizer, config)
    clients = optax.sgd(1.0) if config.optimizer in DATA_PARALLEL else make(rates["local_learning_rate"])
    return clients, make(rates[SERVER_RATE])


def _parts(
    config: Config, options: SplitOptions, model: SplitModel, boundary: Boundary, sharing: Sharing
) -> Callable[[Rates], Parts]:
    up = get_compressor(config.compressor, **config.compressor_options)
    down_options = {k: v for k, v in config.server_compressor.items() if k != "type"}
    down = get_compressor(config.server_compressor["type"], **down_options)
    sizes = round_sizes(config)

    def parts(rates: Rates) -> Parts:
        training = SplitTraining(
            model, boundary, sharing, *_optimizers(config, rates), config.keep_local_state
        )
        work = split_work(training, sizes.num_local_steps, sizes.local_batch_size)
        aggregator = make_aggregator(config, rates)
        return assemble(split_task(training), work, aggregator, compressor=up, server_compressor=down)

    return parts


def _named(task: str, dataset: str, datasets: Mapping[str, Any]) -> tuple[str, int]:
    """(the task's model and size on another data set, that size)."""
    parsed = parse_task_name(task, datasets)
    model = ALIASES.get(task, task).removesuffix(f"_{parsed.dataset}_{parsed.size}")
    return f"{model}_{dataset}_{parsed.size}", parsed.size


def _kept(config: Config) -> Path:
    """Where activations and base models are kept."""
    return cache_dir(config.cache_dir) / "split"


def _other(
    config: Config, model: SplitModel, loaded: TaskData, dataset: str | None
) -> tuple[SplitModel, Any]:
    """(the model over another data set, that set); the downstream one's where none is named."""
    if dataset is None or dataset == loaded.dataset.name:
        return model, loaded.dataset
    name, size = _named(model.name, dataset, config.datasets)
    found = load_dataset(dataset, size, data_options(config)._replace(task=name))
    return split_model(name, found, model.split_layer, config.remat), found


def _base(
    config: Config, options: SplitOptions, model: SplitModel, loaded: TaskData, say: Callable[[str], None]
) -> Params:
    if options.base_path is not None:
        return load_base(options.base_path, model)
    school, dataset = _other(config, model, loaded, options.base_dataset)
    schooling = Schooling(options.base_steps, options.base_learning_rate, options.base_batch_size)
    return make_base(model, school, dataset, schooling, config.seed, _kept(config), say)


def _stage_one(
    config: Config,
    options: SplitOptions,
    model: SplitModel,
    boundary: Boundary,
    base: Params,
    loaded: TaskData,
    rows: list[np.ndarray],
    say: Callable[[str], None],
) -> Stage:
    source, dataset = _other(config, model, loaded, options.ae_dataset)
    if source is not model:
        client, _ = model.part(base)
        other, _ = source.part(jax.eval_shape(source.init, jax.random.key(0)))
        check_same_inputs("split.ae_dataset", dataset.name, client, other)
    distributed = options.ae_training == DISTRIBUTED
    examples = dataset.splits["train"]
    if not distributed:
        parts = [np.arange(len(split_labels(examples)))]
    elif source is model:
        parts = rows
    else:
        parts = _divided(config, examples, len(rows))
    aggregator = make_aggregator(
        config
        if options.decoder_aggregator == "same"
        else replace(config, optimizer="fedavg", rule_options={}),
        rates_of(config),
    )
    theta = learned_theta(config) if options.decoder_aggregator == "same" else ()
    plan = Plan(
        options,
        Whose(options.one_encoder, options.one_decoder or not distributed),
        aggregator,
        theta,
        {"optimizer": config.optimizer} if options.decoder_aggregator == "same" else {"optimizer": "fedavg"},
        {"partition": config.partition, "alpha": config.partition_alpha, "clients": len(rows)}
        if distributed
        else {},
        Path(options.ae_dir or Path(config.checkpoints_dir) / "ae"),
        _kept(config),
        config.seed,
    )
    downstream = Data(model, loaded.dataset.name, loaded.dataset.splits["train"].examples, rows)
    return stage_one(
        plan,
        boundary,
        base,
        Data(source, dataset.name, examples.examples, parts, data_digest(dataset)),
        downstream,
        say,
    )


def _divided(config: Config, examples: Any, clients: int) -> list[np.ndarray]:
    """Another data set over as many clients, by the config's partition; the whole of it to each where it is shared."""
    if config.partition == "shared":
        return [np.arange(len(split_labels(examples)))] * clients
    options = {
        "dirichlet": {"alpha": config.partition_alpha},
        "shards": {"shards_per_client": config.classes_per_client},
    }
    return partition(
        config.partition,
        split_labels(examples),
        examples.clients,
        clients,
        config.seed,
        **options.get(config.partition, {}),
    )
