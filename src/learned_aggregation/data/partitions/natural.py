"""The clients that the data came with."""

import numpy as np

from learned_aggregation.errors import UserError


def partition(
    labels: np.ndarray, clients: np.ndarray | None, num_clients: int, seed: int
) -> list[np.ndarray]:
    """Whole natural clients (a writer, a font), several of them to a client where there are more than needed.

    In a random order, natural client i goes to client i mod num_clients.

    Raises:
      UserError: the data has no natural clients, or fewer than num_clients.
    """
    if clients is None:
        raise UserError(
            "partition natural: expected data with natural clients, got none. Use partition dirichlet."
        )
    names = np.unique(clients)
    if len(names) < num_clients:
        raise UserError(
            f"partition natural: expected at most the {len(names)} natural clients, got {num_clients}. "
            "Lower the number of clients."
        )
    owners = np.empty(len(names), np.int64)
    owners[np.random.default_rng(seed).permutation(len(names))] = np.arange(len(names)) % num_clients
    owner = owners[np.searchsorted(names, clients)]
    return [np.flatnonzero(owner == client) for client in range(num_clients)]
