"""Label skew: each class is divided over the clients in random proportions."""

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
    """For each class, p ~ Dirichlet(alpha, ..., alpha) over the clients; client c gets a p_c part of it.

    Instead of drawing again until every client has min_size examples, which may never end, random examples
    of the largest client move to the smallest one.

    Args:
      alpha: concentration, above 0: 0.1 is strong skew, 100 is nearly iid.
      min_size: the fewest examples of a client.
    Raises:
      UserError: alpha that is not positive and finite, or more than N/C for min_size.
    References:
      Hsu et al., "Measuring the Effects of Non-Identical Data Distribution for Federated Visual
      Classification", 2019, arXiv:1909.06335; per-class proportions as in Yurochkin et al., ICML 2019,
      arXiv:1905.12022.
    """
    if not (np.isfinite(alpha) and alpha > 0):
        raise UserError(f"partition dirichlet: expected alpha above 0, got {alpha!r}. Try 0.5.")
    if not 1 <= min_size <= len(labels) // num_clients:
        raise UserError(
            f"partition dirichlet: expected min_size from 1 to {len(labels) // num_clients} "
            f"({len(labels)} examples, {num_clients} clients), got {min_size!r}. Lower it or the clients."
        )
    rng = np.random.default_rng(seed)
    owner = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        ends = np.cumsum(rng.dirichlet(np.full(num_clients, alpha))) * len(rows)
        owner[rows] = np.searchsorted(ends[:-1], np.arange(len(rows)) + 0.5)
    _fill(owner, num_clients, min_size, rng)
    return [np.flatnonzero(owner == client) for client in range(num_clients)]


def _fill(owner: np.ndarray, num_clients: int, min_size: int, rng: np.random.Generator) -> None:
    """Moves examples, in place, from the largest to the smallest client until all have min_size."""
    sizes = np.bincount(owner, minlength=num_clients)
    while sizes.min() < min_size:
        small, large = sizes.argmin(), sizes.argmax()
        count = min(min_size - sizes[small], sizes[large] - min_size)
        owner[rng.choice(np.flatnonzero(owner == large), count, replace=False)] = small
        sizes[small] += count
        sizes[large] -= count
