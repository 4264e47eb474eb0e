"""A config's meta-training: inner problems, their data, the outer step and the state before its first call."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
from jax.sharding import Mesh
from jaxtyping import Array

from learned_aggregation.build.data import Loader, TaskData, train_data, whole_split
from learned_aggregation.build.parts import make_parts, round_sizes
from learned_aggregation.build.rule import first_theta, make_aggregator, rates_of, serves_any_k
from learned_aggregation.config.resolve import Config
from learned_aggregation.data.streaming import Data, first_windows
from learned_aggregation.devices.parallel import everywhere, job_mesh, put
from learned_aggregation.errors import UserError
from learned_aggregation.meta_testing.program import Rates
from learned_aggregation.meta_training.estimators import ESTIMATORS
from learned_aggregation.meta_training.optimizer import Schedule, learning_rate_schedule, meta_optimizer
from learned_aggregation.meta_training.outer_step import OuterStep, init_meta_state, make_outer_step, place
from learned_aggregation.meta_training.unroll import EpisodeSchedule
from learned_aggregation.meta_training.validation import Validation, before_first, make_score
from learned_aggregation.problems.inner_problem import SAME_DATA, inner_problem
from learned_aggregation.problems.mup import shapes_of
from learned_aggregation.problems.task_augmentation import Augmentation, draw_augmentation
from learned_aggregation.problems.variation import geometric, log_uniform, varied
from learned_aggregation.types import FederatedData, GradientEstimator, InnerProblem, Key, MetaState

_CACHED = 2**18
"""Numbers (1 MiB of float32)."""

_VALIDATION = 1_000_003
"""Folded into the run's key for the validations' seeds, which the training never draws."""


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
    return job_mesh(
        config.num_tasks, config.num_devices, math.gcd(*(settings.num_grads for settings in problems))
    )


def meta_training(config: Config) -> MetaTraining:
    """The outer step and the state before its first call.

    Raises:
      UserError: a classical rule (nothing to meta-train), a start checkpoint of another rule, a device count that
        does not divide the work, a mixture over K for a rule with a fixed one.
    """
    rates = rates_of(config)
    aggregator = make_aggregator(config, rates)
    theta_key, state_key = jax.random.split(jax.random.key(config.seed))
    theta = first_theta(config, aggregator, theta_key)
    _check_cohorts(config)
    mesh = meta_mesh(config)
    schedule = Schedule(**config.schedule)
    loader = Loader()
    loaded = _load_problems(config.inner_problems, loader)
    problems = {
        label: (settings, _problem(settings, loaded[label]))
        for label, settings in config.inner_problems.items()
    }
    datas = _meta_train_datas(config.inner_problems, loaded, mesh)

    def estimators_at(step: Array | int) -> dict[str, GradientEstimator]:
        std, make = _perturbation_std(config, step), ESTIMATORS[config.estimator]
        return {
            label: make(problem, _episodes(settings, step), std)
            for label, (settings, problem) in problems.items()
        }

    optimizer = meta_optimizer(schedule)
    first = first_windows(datas, everywhere(mesh))
    state = init_meta_state(theta, estimators_at, first, optimizer, config.num_tasks, mesh, state_key)
    sources = {label: (settings, loaded[label]) for label, settings in config.inner_problems.items()}
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
        estimators[label].arms * settings.truncation_length
        for label, settings in config.inner_problems.items()
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
        settings.num_grads * sum(leaf.size for leaf in jax.tree.leaves(shapes_of(task.task)))
        for settings, task in problems.values()
    )
    return 1 if largest > _CACHED else None


def _validation(config: Config, loader: Loader, mesh: Mesh) -> Validation | None:
    """The held-out problems; of a split that is streamed its first window."""
    if not config.meta_valid_every:
        return None
    loaded = _load_problems(config.valid_problems, loader)
    score = make_score(
        {label: _problem(settings, loaded[label]) for label, settings in config.valid_problems.items()},
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
    return {label: loader.load(settings, settings.tasks[0]) for label, settings in problems.items()}


def _check_cohorts(config: Config) -> None:
    """Refuses a mixture over K for a rule whose theta is made for one K."""
    if serves_any_k(config):
        return
    validated = config.valid_problems if config.meta_valid_every else {}
    for label, settings in [*config.inner_problems.items(), *validated.items()]:
        if settings.num_grads != config.num_grads:
            raise UserError(
                f"problems: expected num_grads={config.num_grads} in {label!r}, the K that theta of "
                f"{config.optimizer} is made for, got {settings.num_grads}. Use fedlagg-set or another rule that "
                "serves any K."
            )


def _problem(config: Config, loaded: TaskData) -> InnerProblem:
    """The inner problem of a config with one task."""
    rate_range, draw_task = config.local_learning_rate_range, _augmentation(config, loaded)

    def draw(key: Key) -> Drawn:
        rate_key, augmentation_key = (key, key) if draw_task is None else jax.random.split(key)
        rates = {} if rate_range is None else {"local_learning_rate": log_uniform(rate_key, *rate_range)}
        return Drawn(rates, None if draw_task is None else draw_task(augmentation_key))

    def problem_of(drawn: Drawn) -> InnerProblem:
        parts = make_parts(config, loaded, drawn.augmentation)({**rates_of(config), **drawn.rates})
        return inner_problem(parts, round_sizes(config), config.meta_loss_split)

    if rate_range is None and draw_task is None:
        return problem_of(Drawn({}, None))
    return varied(draw, problem_of)


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

    def data(settings: Config, task: TaskData, split: str) -> Data:
        if (id(task), split) not in made:
            found = train_data(settings, task) if split == "train" else whole_split(settings, task, split)
            on_device = isinstance(found, FederatedData)
            made[id(task), split] = put(found, everywhere(mesh)) if on_device else found
        return made[id(task), split]

    return tuple(
        {split: data(settings, loaded[label], split) for split in _meta_train_splits(settings)}
        for label, settings in problems.items()
    )


def _meta_train_splits(config: Config) -> list[str]:
    split = config.meta_loss_split
    return ["train"] if split in (None, SAME_DATA, "train") else ["train", split]
