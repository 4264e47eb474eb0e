"""The composition root: a Config to objects. The only reader of the registries; a config stops here."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from learned_aggregation.aggregators import accepted_options, get_aggregator
from learned_aggregation.clients import LOCAL_OPTIMIZERS
from learned_aggregation.config import Config
from learned_aggregation.data import DataOptions
from learned_aggregation.data.partitions import PARTITIONS, partition, split_labels
from learned_aggregation.data.streaming import (
    Data,
    Streaming,
    evaluation_examples,
    first_windows,
    resident_or_streamed,
)
from learned_aggregation.errors import UserError
from learned_aggregation.estimators import ESTIMATORS
from learned_aggregation.evaluation import chunked
from learned_aggregation.inner_problem import SAME_DATA, RoundSizes, inner_problem
from learned_aggregation.local_training import LocalTraining, local_training
from learned_aggregation.meta_optimizer import Schedule, learning_rate_schedule, meta_optimizer
from learned_aggregation.meta_step import OuterStep, init_meta_state, make_outer_step
from learned_aggregation.meta_test import Contest, Rates, Shared
from learned_aggregation.parallel import everywhere, job_mesh, put
from learned_aggregation.tasks import make_task
from learned_aggregation.theta_file import check_theta, load_theta
from learned_aggregation.types import Aggregator, Dataset, FederatedData, MetaState, Task, Theta
from learned_aggregation.unroll import EpisodeSchedule

RATES = (
    "learning_rate",
    "local_learning_rate",
    "slowmo_learning_rate",
    "beta",
    "base_learning_rate",
    "base_momentum",
)
"""The float settings of a rule or a client; traced in meta-testing, so a sweep over them is one program."""

DATA_PARALLEL = ("sgd", "adam")
"""Rules that take one step a round on the clients' mean gradient: one local step of rate 1."""


class TaskData(NamedTuple):
    """A task, its data set on the host and the rows of each client of the train split."""

    task: Task
    dataset: Dataset
    rows: list[np.ndarray]


def data_options(config: Config) -> DataOptions:
    return DataOptions(
        tfds_data_dir=config.tfds_data_dir,
        tfds_download=config.tfds_download,
        cache_dir=config.cache_dir,
        vocabulary=config.vocabulary,
        whole_mb={None: config.device_data_mb, True: 0, False: None}[config.stream],
    )


def streaming(config: Config) -> Streaming:
    return Streaming(
        config.stream,
        config.device_data_mb,
        config.stream_window,
        config.stream_fresh,
        config.augment,
        config.stream_threads,
        config.seed,
    )


def load_task(config: Config, name: str) -> TaskData:
    """The task with its data divided over clients."""
    task, dataset = make_task(name, data_options(config), config.remat)
    train = dataset.splits["train"]
    own = {
        "dirichlet": {"alpha": config.partition_alpha},
        "shards": {"shards_per_client": config.classes_per_client},
    }
    PARTITIONS.check(config.partition)
    rows = partition(
        config.partition,
        split_labels(train),
        train.clients,
        _population(config, train.clients),
        config.seed,
        **own.get(config.partition, {}),
    )
    return TaskData(task, dataset, rows)


def _population(config: Config, natural: np.ndarray | None) -> int:
    if config.partition == "shared":
        return 1
    if config.partition == "natural" and natural is not None and config.num_clients is None:
        return len(np.unique(natural))
    return config.num_clients or config.num_grads


def train_data(config: Config, loaded: TaskData) -> Data:
    return resident_or_streamed(loaded.dataset.splits["train"], loaded.rows, streaming(config))


def whole_split(config: Config, loaded: TaskData, split: str) -> Data:
    """A held-out split as one shared pool; never augmented."""
    data = loaded.dataset.splits[split]
    pool = [np.arange(len(split_labels(data)))]
    return resident_or_streamed(data, pool, streaming(config)._replace(augment=()))


def round_sizes(config: Config) -> RoundSizes:
    steps = 1 if config.optimizer in DATA_PARALLEL else config.num_local_steps
    return RoundSizes(config.num_grads, steps, config.local_batch_size, config.dropout)


def rates_of(config: Config) -> dict[str, float]:
    """The float settings that are given, by name."""
    return {name: value for name in RATES if (value := getattr(config, name)) is not None}


def make_aggregator(config: Config, rates: Rates) -> Aggregator:
    """The aggregator of the config with the given (maybe traced) rates.

    Raises:
      UserError: a rate that the rule needs is not given.
    """
    return get_aggregator(config.optimizer, **aggregator_options(config, rates))


def aggregator_options(config: Config, rates: Rates) -> dict[str, Any]:
    """What the config says about the options of its rule."""
    accepted = accepted_options(config.optimizer)
    options = {name: rates[name] for name in RATES if name in rates}
    options |= {name: getattr(config, name) for name in ("num_grads", "hidden_size", "base")}
    return {name: value for name, value in options.items() if name in accepted}


def make_local_training(config: Config, task: Task, rates: Rates) -> LocalTraining:
    if config.optimizer in DATA_PARALLEL:
        return local_training(task, LOCAL_OPTIMIZERS["sgd"](1.0), remat=config.remat)
    optimizer = LOCAL_OPTIMIZERS[config.local_optimizer](rates["local_learning_rate"])
    return local_training(task, optimizer, config.keep_local_state, config.remat)


def theta_settings(config: Config) -> dict[str, Any]:
    """What a theta depends on: kept beside it and compared when it is read."""
    return {
        "optimizer": config.optimizer,
        "num_grads": config.num_grads,
        "hidden_size": config.hidden_size,
        "base": config.base,
        "base_learning_rate": config.base_learning_rate,
        "base_momentum": config.base_momentum,
        "num_local_steps": config.num_local_steps,
        "local_learning_rate": config.local_learning_rate,
        "task": ",".join(config.tasks),
    }


class MetaTraining(NamedTuple):
    """All that the meta-training loop needs. datas: of each task's splits; rounds_per_step: both arms counted."""

    outer_step: OuterStep
    state: MetaState
    datas: tuple[dict[str, Data], ...]
    rounds_per_step: int


def meta_training(config: Config) -> MetaTraining:
    """The outer step and the state before its first call.

    Raises:
      UserError: a classical rule (nothing to meta-train), a device count that does not divide num_tasks.
    """
    rates = rates_of(config)
    aggregator = make_aggregator(config, rates)
    theta_key, state_key = jax.random.split(jax.random.key(config.seed))
    theta = jax.jit(aggregator.init_theta)(theta_key)
    if not jax.tree.leaves(theta):
        raise UserError(
            f"optimizer: expected a learned aggregator to meta-train, got {config.optimizer!r}. "
            "Use fedlagg-adafac, or --run_type benchmark."
        )
    mesh = job_mesh(config.num_tasks, config.num_devices)
    schedule = Schedule(**config.schedule)
    episodes = EpisodeSchedule(
        config.truncation_schedule_min_length, config.num_inner_steps, config.truncation_length
    )
    estimators, datas = [], []
    for name in config.tasks:
        loaded = load_task(config, name)
        local = make_local_training(config, loaded.task, rates)
        problem = inner_problem(loaded.task, local, aggregator, round_sizes(config), config.meta_loss_split)
        estimators.append(ESTIMATORS[config.estimator](problem, episodes, config.perturbation_std))
        datas.append(_meta_train_data(config, loaded, mesh))
    optimizer = meta_optimizer(schedule)
    first = first_windows(datas, everywhere(mesh))
    state = init_meta_state(theta, estimators, first, optimizer, config.num_tasks, mesh, state_key)
    outer_step = make_outer_step(
        estimators, optimizer, learning_rate_schedule(schedule), mesh, config.tasks_per_chunk
    )
    rounds = 2 * config.num_tasks * config.truncation_length * len(estimators)
    return MetaTraining(outer_step, state, tuple(datas), rounds)


def _meta_train_data(config: Config, loaded: TaskData, mesh: Mesh) -> dict[str, Data]:
    """What lies on the device whole is put on all of the mesh; streams are put there window by window."""
    data = {"train": train_data(config, loaded)}
    if config.meta_loss_split not in (None, SAME_DATA, "train"):
        data[config.meta_loss_split] = whole_split(config, loaded, config.meta_loss_split)
    return {
        split: put(d, everywhere(mesh)) if isinstance(d, FederatedData) else d for split, d in data.items()
    }


def learned_theta(config: Config) -> Theta:
    """theta for meta-testing: read from `test_checkpoint`, () for a classical rule.

    Raises:
      UserError: a learned rule without a checkpoint, or a checkpoint of another rule, K or width.
    """
    aggregator = make_aggregator(config, rates_of(config))
    expected = jax.eval_shape(aggregator.init_theta, jax.random.key(0))
    if not jax.tree.leaves(expected):
        return ()
    if config.test_checkpoint is None:
        raise UserError(
            f"test_checkpoint: expected the path of a meta-trained theta for {config.optimizer}, got none. "
            "Give --test_checkpoint checkpoints/<meta-train-name>, or meta-train one first."
        )
    theta, metadata = load_theta(config.test_checkpoint)
    settings = {name: value for name, value in theta_settings(config).items() if name in _THETA_SHAPE}
    check_theta(theta, expected, config.optimizer, _fixed(config, settings), metadata)
    return theta


_THETA_SHAPE = ("optimizer", "num_grads", "hidden_size", "base")


def _fixed(config: Config, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that theta's shape depends on: a rule that reads the mean serves any K."""
    one = jax.eval_shape(get_aggregator(config.optimizer, num_grads=1).init_theta, jax.random.key(0))
    two = jax.eval_shape(get_aggregator(config.optimizer, num_grads=2).init_theta, jax.random.key(0))
    any_k = jax.tree.map(jnp.shape, one) == jax.tree.map(jnp.shape, two)
    return {name: value for name, value in settings.items() if not (any_k and name == "num_grads")}


def contest(config: Config, loaded: TaskData, theta: Theta, splits: Sequence[str]) -> tuple[Contest, Shared]:
    """The meta-test of the config's optimizer on one loaded task, evaluated on `splits`."""

    def make_rule(rates: Rates) -> tuple[Aggregator, LocalTraining]:
        return make_aggregator(config, rates), make_local_training(config, loaded.task, rates)

    evaluation = {}
    for split in splits:
        held_out = loaded.dataset.splits[split]
        examples = evaluation_examples(split, held_out, config.eval_examples, config.device_data_mb)
        evaluation[split] = chunked(examples, config.eval_chunk)
    shared = Shared(theta, train_data(config, loaded), evaluation)
    return Contest(loaded.task, round_sizes(config), make_rule), shared


def bytes_a_round(config: Config, loaded: TaskData) -> tuple[int, int]:
    """(up, down): what K clients send, their deltas and model state; what the server sends, one model."""
    params, model_state = jax.eval_shape(loaded.task.init, jax.random.key(0))
    model = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves((params, model_state)))
    return config.num_grads * model, model


def examples_note(config: Config) -> str:
    """How many examples a round takes, to compare rounds fairly."""
    sizes = round_sizes(config)
    return (
        f"{config.optimizer}: {sizes.num_grads} clients x {sizes.num_local_steps} local steps x "
        f"{sizes.local_batch_size} examples = {sizes.examples} examples a round"
    )
