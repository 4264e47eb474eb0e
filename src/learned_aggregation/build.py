"""The composition root: a Config to objects. The only reader of the registries; a config stops here."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array

from learned_aggregation.aggregators import get_aggregator, option_defaults
from learned_aggregation.config.resolve import Config
from learned_aggregation.data import DataOptions
from learned_aggregation.data.partitions import PARTITIONS, partition, split_labels
from learned_aggregation.data.streaming import (
    Data,
    Streaming,
    evaluation_examples,
    first_windows,
    resident_or_streamed,
)
from learned_aggregation.devices.parallel import everywhere, job_mesh, put
from learned_aggregation.errors import UserError
from learned_aggregation.federated.clients import ADAPTIVE, LOCAL_OPTIMIZERS
from learned_aggregation.federated.local_training import LocalTraining, local_training
from learned_aggregation.kernels.mlp_sgd import sgd_training
from learned_aggregation.meta_testing.evaluation import chunked
from learned_aggregation.meta_testing.program import Contest, Rates, Shared
from learned_aggregation.meta_training.estimators import ESTIMATORS
from learned_aggregation.meta_training.optimizer import Schedule, learning_rate_schedule, meta_optimizer
from learned_aggregation.meta_training.outer_step import OuterStep, init_meta_state, make_outer_step, place
from learned_aggregation.meta_training.unroll import EpisodeSchedule
from learned_aggregation.meta_training.validation import Validation, before_first, make_score
from learned_aggregation.pretrained.theta_file import check_theta, load_theta
from learned_aggregation.problems.inner_problem import SAME_DATA, RoundSizes, inner_problem
from learned_aggregation.problems.mup import (
    Factors,
    infer_factors,
    mup_aggregator,
    mup_local,
    mup_task,
    shapes_of,
)
from learned_aggregation.problems.task_augmentation import Augmentation, augmented, draw_augmentation
from learned_aggregation.problems.variation import geometric, log_uniform, varied
from learned_aggregation.tasks import make_task, probe_tasks
from learned_aggregation.types import (
    Aggregator,
    Dataset,
    FederatedData,
    GradientEstimator,
    InnerProblem,
    Key,
    MetaState,
    Task,
    Theta,
)

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


_CACHED = 2**18
"""Numbers (1 MiB of float32)."""

_VALIDATION = 1_000_003
"""Folded into the run's key for the validations' seeds, which the training never draws."""


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


class Loader:
    """Loads each task once for all configs that divide its data alike."""

    def __init__(self) -> None:
        self._loaded: dict[tuple, TaskData] = {}

    def load(self, config: Config, task: str) -> TaskData:
        names = ("partition", "num_clients", "num_grads", "partition_alpha", "classes_per_client", "seed")
        shared = config.partition == "shared"
        key = (task, shared or tuple(getattr(config, name) for name in names))
        if key not in self._loaded:
            self._loaded[key] = load_task(config, task)
        return self._loaded[key]


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
    """The options of the config's rule, with the rule's own defaults where the config says nothing."""
    given = {name: rates[name] for name in RATES if name in rates}
    given |= {"num_grads": config.num_grads, "hidden_size": config.hidden_size}
    given |= {} if config.base is None else {"base": config.base}
    return {
        name: given.get(name, default)
        for name, default in option_defaults(config.optimizer).items()
        if name in given or default is not None
    }


def make_local_training(
    config: Config, task: Task, rates: Rates, factors: Factors | None = None
) -> LocalTraining:
    if config.optimizer in DATA_PARALLEL:
        name, rate, keep_state = "sgd", 1.0, False
    else:
        name, rate, keep_state = config.local_optimizer, rates["local_learning_rate"], config.keep_local_state
    if name == "sgd" and factors is None:
        return sgd_training(task, rate, config.remat)
    optimizer = LOCAL_OPTIMIZERS[name](rate)
    if factors is not None:
        optimizer = mup_local(optimizer, factors.adam if name in ADAPTIVE else factors.sgd)
    return local_training(task, optimizer, keep_state, config.remat)


def in_parametrization(
    config: Config, loaded: TaskData
) -> tuple[Task, Callable[[Rates], tuple[Aggregator, LocalTraining]]]:
    """The task, and rates -> (its rule, its local training), in the config's parametrization.

    Raises:
      UserError: mup with a model that is not named by its widths.
    """
    if config.parametrization == "standard":
        return loaded.task, lambda rates: (
            make_aggregator(config, rates),
            make_local_training(config, loaded.task, rates),
        )
    probes = probe_tasks(loaded.task.name, config.mup_base_width, loaded.dataset)
    factors = infer_factors(*(shapes_of(each) for each in (loaded.task, *probes)))
    task = mup_task(loaded.task, factors)
    return task, lambda rates: (
        mup_aggregator(make_aggregator(config, rates), factors),
        make_local_training(config, task, rates, factors),
    )


def theta_settings(config: Config) -> dict[str, Any]:
    """What a theta depends on: kept beside it and compared when it is read."""
    options = aggregator_options(config, rates_of(config))
    return {
        "optimizer": config.optimizer,
        "num_grads": config.num_grads,
        "hidden_size": config.hidden_size,
        **{name: value for name, value in options.items() if name.startswith("base")},
        "parametrization": config.parametrization,
        "num_local_steps": config.num_local_steps,
        "local_learning_rate": config.local_learning_rate,
        "task": ",".join(dict.fromkeys(own.tasks[0] for own in config.inner_problems.values())),
    }


class MetaTraining(NamedTuple):
    """All that the meta-training loop needs. datas: of each problem's splits; rounds_per_step: windows of all arms."""

    outer_step: OuterStep
    state: MetaState
    datas: tuple[dict[str, Data], ...]
    rounds_per_step: int
    validation: Validation | None = None


def meta_mesh(config: Config) -> Mesh:
    """The devices of meta-training: num_tasks divided over them, then every problem's clients.

    Raises:
      UserError: a number of devices that divides neither.
    """
    problems = [
        *config.inner_problems.values(),
        *(config.valid_problems.values() if config.meta_valid_every else ()),
    ]
    return job_mesh(config.num_tasks, config.num_devices, math.gcd(*(own.num_grads for own in problems)))


def meta_training(config: Config) -> MetaTraining:
    """The outer step and the state before its first call.

    Raises:
      UserError: a classical rule (nothing to meta-train), a device count that does not divide the work, a mixture
        over K for a rule with a fixed one.
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
    _check_cohorts(config)
    mesh = meta_mesh(config)
    schedule = Schedule(**config.schedule)
    loader = Loader()
    loaded = _load_problems(config.inner_problems, loader)
    problems = {label: (own, _problem(own, loaded[label])) for label, own in config.inner_problems.items()}
    datas = _meta_train_datas(config.inner_problems, loaded, mesh)

    def estimators_at(step: Array | int) -> dict[str, GradientEstimator]:
        std, make = _perturbation_std(config, step), ESTIMATORS[config.estimator]
        return {label: make(problem, _episodes(own, step), std) for label, (own, problem) in problems.items()}

    optimizer = meta_optimizer(schedule)
    first = first_windows(datas, everywhere(mesh))
    state = init_meta_state(theta, estimators_at, first, optimizer, config.num_tasks, mesh, state_key)
    sources = {label: (own, loaded[label]) for label, own in config.inner_problems.items()}
    outer_step = make_outer_step(
        estimators_at,
        optimizer,
        learning_rate_schedule(schedule),
        mesh,
        config.tasks_per_chunk or fastest_chunk(sources),
        config.problem_clip,
        config.problem_reject,
    )
    estimators = estimators_at(0)
    rounds = sum(
        estimators[label].arms * own.truncation_length for label, own in config.inner_problems.items()
    )
    validation = _validation(config, loader, mesh)
    if validation is not None:
        state = place(state._replace(validation=before_first()), mesh)
    return MetaTraining(outer_step, state, datas, config.num_tasks * rounds, validation)


def fastest_chunk(problems: Mapping[str, tuple[Config, TaskData]]) -> int | None:
    """Copies of the problems to compute at once where none are asked for; None is all.

    On a CPU 1 where the clients' weights of one copy are larger than a core's share of the cache: copies side by side
    then only evict each other (workload a of benchmarks/: 14.9 s against 17.5 s).
    """
    if jax.default_backend() != "cpu":
        return None
    largest = max(
        own.num_grads * sum(leaf.size for leaf in jax.tree.leaves(shapes_of(task.task)))
        for own, task in problems.values()
    )
    return 1 if largest > _CACHED else None


def _validation(config: Config, loader: Loader, mesh: Mesh) -> Validation | None:
    """The held-out problems; of a split that is streamed its first window."""
    if not config.meta_valid_every:
        return None
    loaded = _load_problems(config.valid_problems, loader)
    score = make_score(
        {label: _problem(own, loaded[label]) for label, own in config.valid_problems.items()},
        first_windows(_meta_train_datas(config.valid_problems, loaded, mesh), everywhere(mesh)),
        rounds=config.meta_valid_rounds,
        num_seeds=config.meta_valid_seeds,
        key=jax.random.fold_in(jax.random.key(config.seed), _VALIDATION),
        mesh=mesh,
        chunk=config.tasks_per_chunk,
    )
    return Validation(config.meta_valid_every, config.meta_valid_patience, score)


def _load_problems(problems: Mapping[str, Config], loader: Loader) -> dict[str, TaskData]:
    """Each problem's task and data; what two of them have in common is loaded once."""
    return {label: loader.load(own, own.tasks[0]) for label, own in problems.items()}


def _check_cohorts(config: Config) -> None:
    """Refuses a mixture over K for a rule whose theta is made for one K."""
    if _serves_any_k(config):
        return
    validated = config.valid_problems if config.meta_valid_every else {}
    for label, own in [*config.inner_problems.items(), *validated.items()]:
        if own.num_grads != config.num_grads:
            raise UserError(
                f"problems: expected num_grads={config.num_grads} in {label!r}, the K that theta of "
                f"{config.optimizer} is made for, got {own.num_grads}. Use fedlagg-set or another rule that serves "
                "any K."
            )


def _problem(config: Config, loaded: TaskData) -> InnerProblem:
    """The inner problem of a config with one task."""
    rate_range, draw_task = config.local_learning_rate_range, _augmentation(config, loaded)

    def draw(key: Key) -> Drawn:
        rate_key, augmentation_key = (key, key) if draw_task is None else jax.random.split(key)
        rates = {} if rate_range is None else {"local_learning_rate": log_uniform(rate_key, *rate_range)}
        return Drawn(rates, None if draw_task is None else draw_task(augmentation_key))

    def given(drawn: Drawn) -> InnerProblem:
        own = loaded.task if drawn.augmentation is None else augmented(loaded.task, drawn.augmentation)
        task, make_rule = in_parametrization(config, loaded._replace(task=own))
        aggregator, local = make_rule({**rates_of(config), **drawn.rates})
        return inner_problem(task, local, aggregator, round_sizes(config), config.meta_loss_split)

    if rate_range is None and draw_task is None:
        return given(Drawn({}, None))
    return varied(draw, given)


class Drawn(NamedTuple):
    """What each episode of an inner problem draws."""

    rates: Rates
    augmentation: Augmentation | None


def _augmentation(config: Config, loaded: TaskData) -> Callable[[Key], Augmentation] | None:
    """How an episode's task augmentation is drawn; None where there is none."""
    if config.weight_scale_range is None and not config.permute:
        return None
    examples = loaded.dataset.splits["train"].examples
    if config.permute and "image" not in examples:
        raise UserError(
            f"permute: expected an image data set, got that of {loaded.task.name}. Leave permute out for it."
        )
    return functools.partial(
        draw_augmentation,
        params=shapes_of(loaded.task),
        image_shape=examples["image"].shape[1:] if config.permute else (),
        num_classes=loaded.dataset.num_classes,
        scale_range=config.weight_scale_range,
        permuted=config.permute,
    )


def _perturbation_std(config: Config, step: Array | int) -> float | Array:
    first, last = config.perturbation_std, config.perturbation_std_end
    return first if last is None else geometric(first, last, config.schedule["decay_steps"], step)


def _episodes(config: Config, step: Array | int) -> EpisodeSchedule:
    """From the shortest length to `num_inner_steps`, or to what it has grown to at this outer step."""
    shortest, longest = config.truncation_schedule_min_length, config.num_inner_steps
    grown = config.episode_growth_steps
    bound = longest if not grown else geometric(shortest, longest, grown, step)
    return EpisodeSchedule(shortest, bound, config.truncation_length)


def _meta_train_datas(
    problems: Mapping[str, Config], loaded: Mapping[str, TaskData], mesh: Mesh
) -> tuple[dict[str, Data], ...]:
    """Each problem's splits; those with the same TaskData share them.

    What lies on the device whole is put on all of the mesh; streams are put there window by window.
    """
    made: dict[tuple[int, str], Data] = {}

    def data(own: Config, task: TaskData, split: str) -> Data:
        if (id(task), split) not in made:
            found = train_data(own, task) if split == "train" else whole_split(own, task, split)
            on_device = isinstance(found, FederatedData)
            made[id(task), split] = put(found, everywhere(mesh)) if on_device else found
        return made[id(task), split]

    return tuple(
        {split: data(own, loaded[label], split) for split in _meta_train_splits(own)}
        for label, own in problems.items()
    )


def _meta_train_splits(config: Config) -> list[str]:
    split = config.meta_loss_split
    return ["train"] if split in (None, SAME_DATA, "train") else ["train", split]


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
    settings = {name: value for name, value in theta_settings(config).items() if name in _COMPARED}
    check_theta(theta, expected, config.optimizer, _fixed(config, settings), metadata)
    return theta


_COMPARED = ("optimizer", "num_grads", "hidden_size", "base", "parametrization")


def _fixed(config: Config, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that theta's shape depends on: K only for a rule that reads raw deltas."""
    any_k = _serves_any_k(config)
    return {name: value for name, value in settings.items() if not (any_k and name == "num_grads")}


def _serves_any_k(config: Config) -> bool:
    """Whether theta is made for no one K."""
    return get_aggregator(config.optimizer).num_clients is None


def contest(config: Config, loaded: TaskData, theta: Theta, splits: Sequence[str]) -> tuple[Contest, Shared]:
    """The meta-test of the config's optimizer on one loaded task, evaluated on `splits`."""
    task, make_rule = in_parametrization(config, loaded)
    evaluation = {}
    for split in splits:
        held_out = loaded.dataset.splits[split]
        examples = evaluation_examples(split, held_out, config.eval_examples, config.device_data_mb)
        evaluation[split] = chunked(examples, config.eval_chunk)
    shared = Shared(theta, train_data(config, loaded), evaluation)
    return Contest(task, round_sizes(config), make_rule), shared


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
