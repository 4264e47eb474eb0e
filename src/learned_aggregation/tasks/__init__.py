"""Inner problems' models and losses, made from task names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from learned_aggregation.data import DataOptions, load_dataset
from learned_aggregation.tasks.names import ALIASES, MODELS, parse_task_name

if TYPE_CHECKING:  # listing names must not wait for JAX
    from learned_aggregation.types import Dataset, Task


def make_task(name: str, options: DataOptions | None = None) -> tuple[Task, Dataset]:
    """The task and the data set that a name such as `mlp128x128_fmnist_28` stands for.

    Args:
      options: where and how data is read; see DataOptions.
    Raises:
      UserError: a name that does not parse, a data set that is not there.
    """
    from learned_aggregation.tasks.classification import classification

    parsed = parse_task_name(name)
    model = MODELS[parsed.family]  # resolved before the data set is loaded: its errors come at once
    options = (options or DataOptions())._replace(task=ALIASES.get(name, name))  # messages name one like it
    dataset = load_dataset(parsed.dataset, parsed.size, options)
    return classification(name, model(parsed.arguments, dataset.num_classes), dataset), dataset
