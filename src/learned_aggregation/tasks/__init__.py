"""Inner problems' models and losses, made from task names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from learned_aggregation.data import DataOptions, Description, describe, load_dataset
from learned_aggregation.tasks.names import ALIASES, MODELS, parse_task_name, width_probes

if TYPE_CHECKING:  # listing names must not wait for JAX
    from flax import linen as nn

    from learned_aggregation.types import Dataset, Task


def make_task(name: str, options: DataOptions | None = None, remat: bool = False) -> tuple[Task, Dataset]:
    """The task and the data set that a name such as `mlp128x128_fmnist_28` stands for.

    Args:
      options: where and how data is read; see DataOptions.
      remat: see make_model.
    Raises:
      UserError: a name that does not parse, a data set that is not there.
    """
    from learned_aggregation.tasks.classification import classification
    from learned_aggregation.tasks.language_modelling import language_modelling

    options = (options or DataOptions())._replace(task=ALIASES.get(name, name))  # messages name one like it
    model, about = make_model(name, options, remat)  # before the data set is loaded: its errors come at once
    parsed = parse_task_name(name)
    dataset = load_dataset(parsed.dataset, parsed.size, options)
    make = language_modelling if about.kind == "text" else classification
    return make(name, model, dataset), dataset


def probe_tasks(name: str, width: int, dataset: Dataset) -> tuple[Task, Task]:
    """The image task `name` with all layers `width` wide, and with all twice that, to see what depends on it.

    Raises:
      UserError: a model whose name is not a list of widths.
    """
    from learned_aggregation.tasks.classification import classification

    base, wider = (classification(task, make_model(task)[0], dataset) for task in width_probes(name, width))
    return base, wider


def make_model(
    name: str, options: DataOptions | None = None, remat: bool = False
) -> tuple[nn.Module, Description]:
    """The model of a task and what its inputs are; no data is loaded.

    Args:
      remat: a model in blocks (resnet, vit, transformer) keeps their inputs for the gradient and computes their
        activations again; other models stay as they are.
    """
    parsed = parse_task_name(name)
    about = describe(parsed.dataset, parsed.size, options)
    model = MODELS[parsed.family](parsed.arguments, about.num_classes)
    return model.clone(remat=True) if remat and hasattr(model, "remat") else model, about
