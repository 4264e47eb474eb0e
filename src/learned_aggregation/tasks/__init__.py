"""Inner problems' models and losses, made from task names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from learned_aggregation.data import (
    DataOptions,
    Description,
    describe,
    description_of,
    is_packaged,
    load_dataset,
)
from learned_aggregation.errors import UserError
from learned_aggregation.tasks.construct import construct
from learned_aggregation.tasks.names import ALIASES, MODELS, check_reads, parse_task_name, width_probes
from learned_aggregation.tasks.objectives import check_objective_options, get_objective, objective_name

if TYPE_CHECKING:  # listing names must not wait for JAX
    from learned_aggregation.types import Dataset, Task


def make_task(
    name: str,
    options: DataOptions | None = None,
    remat: bool = False,
    objective: str | None = None,
    objective_options: Mapping[str, Any] | None = None,
) -> tuple[Task, Dataset]:
    """The task and the data set that a name such as `mlp128x128_fmnist_28` stands for.

    Args:
      options: where and how data is read; see DataOptions.
      remat: see make_model.
      objective: what is learned from the data, of OBJECTIVES; None is the usual one for the data set's kind.
      objective_options: its options.
    Raises:
      UserError: a name that does not parse, a data set that is not there, an objective that does not read it.
    """
    options = (options or DataOptions())._replace(task=ALIASES.get(name, name))  # messages name one like it
    parsed = parse_task_name(name, options.datasets)
    dataset = None
    if not is_packaged(parsed.dataset, options.datasets):
        dataset = load_dataset(parsed.dataset, parsed.size, options)
    # before a data set of the package is loaded: its errors come at once
    model, about = make_model(name, options, remat, objective, dataset)
    dataset = dataset or load_dataset(parsed.dataset, parsed.size, options)
    if is_task(model):
        _check_task(model, dataset)
        return model._replace(name=name), dataset
    chosen = objective_name(parsed.dataset, objective, kind=about.kind)
    check_objective_options(chosen, objective_options or {})
    return get_objective(chosen).make(name, model, dataset, **(objective_options or {})), dataset


def _check_task(task: Task, dataset: Dataset) -> None:
    """Refuses a task from outside whose functions return something else than types.Task says; nothing is computed.

    Raises:
      UserError: naming the function.
    """
    import jax
    import numpy as np

    from learned_aggregation.types import Task

    size = 3
    batch = {
        name: jax.ShapeDtypeStruct((size, *leaf.shape[1:]), np.dtype(leaf.dtype))
        for name, leaf in dataset.splits["train"].examples.items()
    }
    key = jax.eval_shape(lambda: jax.random.key(0))
    checks = (
        ("init", lambda found: len(found) == 2 and bool(jax.tree.leaves(found[0])), "(params, model_state)"),
        (
            "loss",
            lambda found: found[0].shape == () and len(found[1]) == 2,
            "(the mean loss [], (model_state, metrics))",
        ),
        (
            "evaluate",
            lambda found: "loss" in found and all(leaf.shape == (size,) for leaf in found.values()),
            f"metrics of each of {size} examples, [{size}], one of them 'loss'",
        ),
    )
    started: tuple = ()
    for name, fits, expected in checks:
        found = jax.eval_shape(getattr(task, name), *((key,) if name == "init" else (*started, key, batch)))
        try:
            good = fits(found)
        except (TypeError, AttributeError, IndexError, KeyError):
            good = False
        if not good:
            got = jax.tree.map(lambda leaf: f"{leaf.dtype}{list(leaf.shape)}", found)
            raise UserError(
                f"task {task.name}: expected {name} to return {expected}, got {got!r:.200}. See {Task.__module__}.Task."
            )
        started = found if name == "init" else started


def is_task(model: Any) -> bool:
    """Whether what a model's name stands for is a whole task, brought from outside."""
    from learned_aggregation.types import Task

    return isinstance(model, Task)


def probe_tasks(name: str, width: int, dataset: Dataset, objective: str | None = None) -> tuple[Task, Task]:
    """The task `name` with all layers `width` wide, and with all twice that, to see what depends on it.

    Raises:
      UserError: a model whose name is not a list of widths.
    """
    datasets = {dataset.name: {}}
    kind = description_of(dataset).kind
    make = get_objective(objective_name(parse_task_name(name, datasets).dataset, objective, kind=kind)).make
    options = DataOptions(datasets=datasets)
    base, wider = (
        make(probe, make_model(probe, options, objective=objective, dataset=dataset)[0], dataset)
        for probe in width_probes(name, width, datasets)
    )
    return base, wider


def make_model(
    name: str,
    options: DataOptions | None = None,
    remat: bool = False,
    objective: str | None = None,
    dataset: Dataset | None = None,
) -> tuple[Any, Description]:
    """The model of a task, with as many outputs as its objective asks for, and what its inputs are; no data is loaded,
    but of a data set from outside.

    Args:
      remat: a model in blocks (resnet, vit, transformer) keeps their inputs for the gradient and computes their
        activations again; other models stay as they are.
      objective: see make_task.
      dataset: what the name's data set is, where it is loaded already.
    """
    parsed = parse_task_name(name, (options or DataOptions()).datasets)
    about = describe(parsed.dataset, parsed.size, options) if dataset is None else description_of(dataset)
    item = MODELS[parsed.family]
    if is_task(item):
        return item, about
    check_reads(parsed.family, parsed.family + parsed.arguments, parsed.dataset, about.kind)
    chosen = objective_name(parsed.dataset, objective, kind=about.kind)
    outputs = get_objective(chosen).outputs(about)
    if outputs < 1:
        raise UserError(
            f"{parsed.dataset}: expected labels for the objective {chosen}, got none. "
            "Name their column in columns=dict(label=...), or bring a loss that needs none."
        )
    model = construct(item, parsed.arguments, outputs)
    return model.clone(remat=True) if remat and hasattr(model, "remat") else model, about
