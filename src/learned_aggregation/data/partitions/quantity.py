"""Quantity skew: clients of very different sizes, each an iid sample."""

import numpy as np

from learned_aggregation.errors import UserError


def partition(
    labels: np.ndarray,
    clients: np.ndarray | None,
    num_clients: int,
    seed: int,
    alpha: float = 0.5,
    min_size: int = 1,
) -> list[np.ndarray]:
    """min_size examples to every client, the rest in proportions p ~ Dirichlet(alpha, ..., alpha).

    Args:
      alpha: concentration, above 0: the smaller, the more unequal the sizes.
      min_size: the fewest examples of a client.
    Raises:
      UserError: alpha that is not positive and finite, or more than N/C for min_size.
    References:
      Li et al., "Federated Learning on Non-IID Data Silos: An Experimental Study", ICDE 2022,
      arXiv:2102.02079, section 4.3.
    """
    if not (np.isfinite(alpha) and alpha > 0):
        raise UserError(f"partition quantity: expected alpha above 0, got {alpha!r}. Try 0.5.")
    if not 1 <= min_size <= len(labels) // num_clients:
        raise UserError(
            f"partition quantity: expected min_size from 1 to {len(labels) // num_clients} "
            f"({len(labels)} examples, {num_clients} clients), got {min_size!r}. Lower it or the clients."
        )
    rng = np.random.default_rng(seed)
    rest = len(labels) - num_clients * min_size
    shares = rng.dirichlet(np.full(num_clients, alpha))
    ends = np.round(np.cumsum(shares) * rest).astype(np.int64)
    ends += min_size * np.arange(1, num_clients + 1)
    return np.split(rng.permutation(len(labels)), ends[:-1])
