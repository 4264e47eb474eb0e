"""Inner problems' models and losses, made from task names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from learned_aggregation.data import DataOptions, Description, describe, load_dataset
from learned_aggregation.tasks.names import ALIASES, MODELS, parse_task_name, width_probes
from learned_aggregation.tasks.objectives import OBJECTIVES, objective_name

if TYPE_CHECKING:  # listing names must not wait for JAX
    from flax import linen as nn

    from learned_aggregation.types import Dataset, Task


def make_task(
    name: str, options: DataOptions | None = None, remat: bool = False, objective: str | None = None
) -> tuple[Task, Dataset]:
    """The task and the data set that a name such as `mlp128x128_fmnist_28` stands for.

    Args:
      options: where and how data is read; see DataOptions.
      remat: see make_model.
      objective: what is learned from the data, of OBJECTIVES; None is the usual one for the data set's kind.
    Raises:
      UserError: a name that does not parse, a data set that is not there, an objective that does not read it.
    """
    options = (options or DataOptions())._replace(task=ALIASES.get(name, name))  # messages name one like it
    model, _ = make_model(
        name, options, remat, objective
    )  # before the data set is loaded: its errors come at once
    parsed = parse_task_name(name)
    dataset = load_dataset(parsed.dataset, parsed.size, options)
    make = OBJECTIVES[objective_name(parsed.dataset, objective)].make
    return make(name, model, dataset), dataset


def probe_tasks(name: str, width: int, dataset: Dataset, objective: str | None = None) -> tuple[Task, Task]:
    """The task `name` with all layers `width` wide, and with all twice that, to see what depends on it.

    Raises:
      UserError: a model whose name is not a list of widths.
    """
    make = OBJECTIVES[objective_name(parse_task_name(name).dataset, objective)].make
    base, wider = (
        make(probe, make_model(probe, objective=objective)[0], dataset) for probe in width_probes(name, width)
    )
    return base, wider


def make_model(
    name: str, options: DataOptions | None = None, remat: bool = False, objective: str | None = None
) -> tuple[nn.Module, Description]:
    """The model of a task, with as many outputs as its objective asks for, and what its inputs are; no data is loaded.

    Args:
      remat: a model in blocks (resnet, vit, transformer) keeps their inputs for the gradient and computes their
        activations again; other models stay as they are.
      objective: see make_task.
    """
    parsed = parse_task_name(name)
    about = describe(parsed.dataset, parsed.size, options)
    outputs = OBJECTIVES[objective_name(parsed.dataset, objective)].outputs(about)
    model = MODELS[parsed.family](parsed.arguments, outputs)
    return model.clone(remat=True) if remat and hasattr(model, "remat") else model, about
