"""Every client draws from all the data."""

import numpy as np

from learned_aggregation.errors import UserError


def partition(
    labels: np.ndarray, clients: np.ndarray | None, num_clients: int, seed: int
) -> list[np.ndarray]:
    """One pool of all examples: the setting of the paper, in which clients differ only by chance.

    Raises:
      UserError: num_clients other than 1: a pool has no population.
    References:
      Joseph et al., "Meta-learning Optimizers for Communication-Efficient Learning", TMLR 2025,
      arXiv:2312.02204.
    """
    if num_clients != 1:
        raise UserError(
            f"partition shared: expected one pool (num_clients=1), got {num_clients}. "
            "Use partition iid to divide the data."
        )
    return [np.arange(len(labels))]
