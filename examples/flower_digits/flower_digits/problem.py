"""What server and clients share: model, loss, data."""

from functools import cache

import jax
import numpy as np

from learned_aggregation.data.partitions import partition
from learned_aggregation.tasks import make_task
from learned_aggregation.types import Dataset, Params, Task

NO_STATE = {}
"""The model state of an MLP: it keeps no running statistics."""


@cache
def problem() -> tuple[Task, Dataset]:
    """A two-layer MLP on scikit-learn's 8x8 digits; nothing is downloaded."""
    return make_task("mlp32x32_digits_8")


def initial_params(seed: int) -> Params:
    params, _ = problem()[0].init(jax.random.key(seed))
    return params


def client_examples(client: int, num_clients: int, alpha: float, seed: int) -> dict[str, np.ndarray]:
    """The training examples of one client: its part of a Dirichlet(alpha) division of every class."""
    examples = problem()[1].splits["train"].examples
    rows = partition("dirichlet", examples["label"], None, num_clients, seed, alpha=alpha, min_size=8)
    return {name: leaf[rows[client]] for name, leaf in examples.items()}


def mean_metrics(params: Params, examples: dict[str, np.ndarray]) -> dict[str, float]:
    """Loss and accuracy over examples."""
    key = jax.random.key(0)  # an image's loss draws nothing
    metrics = jax.jit(problem()[0].evaluate)(params, NO_STATE, key, examples)
    return {name: float(np.mean(values)) for name, values in metrics.items()}
