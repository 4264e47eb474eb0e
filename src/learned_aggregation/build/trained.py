"""What a config meta-trains on, for theta's card and metadata, and what a meta-test uses theta with."""

import math
from dataclasses import replace

import jax

from learned_aggregation.build.data import data_options
from learned_aggregation.config.resolve import Config, config_of
from learned_aggregation.config.settings import SETTINGS
from learned_aggregation.pretrained.card import RANGES, Card
from learned_aggregation.pretrained.trained import LOCAL_OPTIMIZER, Trained
from learned_aggregation.problems.mup import shapes_of
from learned_aggregation.tasks import make_task
from learned_aggregation.types import Task


def trained_on(config: Config) -> Trained:
    """The ranges and the clients' optimizers of the config's inner problems, but for the sizes of their models."""
    problems = list(config.inner_problems.values())
    values = {
        name: [getattr(problem, name) for problem in problems] for name in ("num_grads", "num_local_steps")
    }
    values["local_learning_rate"] = [
        rate
        for problem in problems
        for rate in problem.local_learning_rate_range or (problem.local_learning_rate,)
    ]
    values["num_rounds"] = [1, *(problem.num_inner_steps for problem in problems)]
    ranges = {name: (min(found), max(found)) for name, found in values.items()}
    return Trained(config.optimizer, ranges, tuple(dict.fromkeys(p.local_optimizer for p in problems)))


def model_ranges(config: Config) -> dict[str, tuple[int, int]]:
    """The ranges "tensor_size" and "model_size" over the models of the config's inner problems.

    Nothing is computed, but a task's data set is read, which its model depends on.

    Raises:
      UserError: data that is not there.
    """
    asked = {
        (task, problem.objective) for problem in config.inner_problems.values() for task in problem.tasks
    }
    made = (
        make_task(task, data_options(config), config.remat, objective)[0]
        for task, objective in sorted(asked, key=str)
    )
    sizes = [tensor_sizes(task) for task in made]
    tensors, models = [size for found in sizes for size in found], [sum(found) for found in sizes]
    return {"tensor_size": (min(tensors), max(tensors)), "model_size": (min(models), max(models))}


def tensor_sizes(task: Task) -> list[int]:
    """The number of parameters of each tensor of a task's model."""
    return [math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes_of(task))]


def completed(card: Card) -> Card:
    """The card with the rounds, sizes of models and clients' optimizers that its settings tell, where it has none.

    K, H and the rate are not among these settings: the card's ranges tell them.

    Raises:
      UserError: settings that this version does not know, data that is not there.
    """
    told = {name: value for name, value in card.trained_on.items() if name in SETTINGS}
    config = config_of({**told, "optimizer": card.aggregator})
    trained = trained_on(config)
    found = {"num_rounds": trained.ranges["num_rounds"], **model_ranges(config)}
    known = {**{name: list(span) for name, span in found.items()}, **card.ranges}
    ranges = {name: known[name] for name in RANGES if name in known}
    optimizers = list(card.local_optimizers or trained.local_optimizers)
    return replace(card, ranges=ranges, local_optimizers=optimizers)


def used_with(config: Config) -> dict[str, float | str]:
    """What a meta-test of the config uses theta with, but for its models: a quantity of `Trained.left` -> its value."""
    numbers = {
        name: getattr(config, name) for name in ("num_grads", "num_local_steps", "local_learning_rate")
    }
    return {**numbers, "num_rounds": config.num_inner_steps, LOCAL_OPTIMIZER: config.local_optimizer}
