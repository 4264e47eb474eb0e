"""What tells a user's data from other data under the same name."""

import hashlib

import numpy as np
from jax import Array

from learned_aggregation.data import is_packaged
from learned_aggregation.data.sources.arrays import fingerprint
from learned_aggregation.types import Dataset

FROM_A_FILE = ("textfile", "fsdd")
"""Data sets of the package whose content is the user's."""


def is_a_users(name: str) -> bool:
    """Whether a data set's content is the user's to change: it is not made by the package or kept by TFDS."""
    return not is_packaged(name) or name in FROM_A_FILE


def data_digest(dataset: Dataset) -> str | None:
    """sha256 of a user's data set; None for one of the package, whose name and seed say what it holds.

    Images that stay on disk count by their number alone.

    Example:
      >>> from learned_aggregation.types import Split
      >>> mine = Dataset("mine", {"train": Split({"features": np.zeros((2, 3))})}, 2)
      >>> other = mine._replace(splits={"train": Split({"features": np.ones((2, 3))})})
      >>> data_digest(mine) == data_digest(mine), data_digest(mine) == data_digest(other)
      (True, False)
    """
    if not is_a_users(dataset.name):
        return None
    found = hashlib.sha256()
    for name, split in dataset.splits.items():
        held = {
            leaf: values for leaf, values in split.examples.items() if isinstance(values, (np.ndarray, Array))
        }
        held |= {"clients": split.clients} if split.clients is not None else {}
        counts = {leaf: len(values) for leaf, values in split.examples.items()}
        found.update(f"{name} {counts} {fingerprint(held)};".encode())
    return found.hexdigest()
