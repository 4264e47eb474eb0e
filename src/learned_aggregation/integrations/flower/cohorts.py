"""What a strategy keeps of a round's replies: sums where the rule reads no more, else the replies. No flwr here."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from learned_aggregation.types import AggState

Arrays = dict[str, np.ndarray]


class Cohort(Protocol):
    """A round's clients, as they come."""

    def add(self, place: tuple[float, int], arrays: Arrays, weight: float) -> None:
        """One more client: its place in the fixed order, its arrays, its weight above 0."""
        ...

    def finish(self, state: AggState) -> tuple[Arrays, AggState]:
        """(the server's next arrays, the rule's next state), once a client has come."""
        ...


class Summed:
    """A cohort of which sums are kept: the memory is that of a few models, for any number of clients."""

    def __init__(self, aggregator: Any, server: Arrays, params: Arrays):
        """params: those of the server's arrays that the rule moves; the others are averaged."""
        self._aggregator, self._server, self._params = aggregator, server, params
        self._partial = aggregator.start(params)
        self._weight = 0.0
        self._sums = {name: np.zeros(leaf.shape) for name, leaf in server.items() if name not in params}

    def add(self, place: tuple[float, int], arrays: Arrays, weight: float) -> None:
        delta = {name: difference(arrays[name], leaf) for name, leaf in self._params.items()}
        self._partial = self._aggregator.add(self._partial, delta, weight)
        self._weight += weight
        for name, total in self._sums.items():
            total += weight * arrays[name]

    def finish(self, state: AggState) -> tuple[Arrays, AggState]:
        new, state = self._aggregator.finish(self._params, self._partial, state)
        averaged = {name: total / self._weight for name, total in self._sums.items()}
        return _like(self._server, {**new, **averaged}), state


class Held:
    """A cohort of which every reply is kept until the last has come, for a rule that reads them all at once."""

    def __init__(self, aggregator: Any, server: Arrays, params: Arrays, places: int | None):
        """places: the one number of clients that the rule takes; None for any."""
        self._aggregator, self._server, self._params, self._places = aggregator, server, params, places
        self._clients: list[tuple[tuple[float, int], Arrays, float]] = []

    def add(self, place: tuple[float, int], arrays: Arrays, weight: float) -> None:
        self._clients.append((place, arrays, weight))

    def finish(self, state: AggState) -> tuple[Arrays, AggState]:
        clients = sorted(self._clients, key=lambda client: client[0])
        weights = np.array([weight for _, _, weight in clients], np.float64)
        deltas = {
            name: np.stack([difference(arrays[name], leaf) for _, arrays, _ in clients])
            for name, leaf in self._params.items()
        }
        filled = fill_places(deltas, weights, self._places)
        new, state = self._aggregator.update(self._params, *filled, state)
        averaged = {
            name: _mean(np.stack([arrays[name] for _, arrays, _ in clients]), weights)
            for name in self._server
            if name not in self._params
        }
        return _like(self._server, {**new, **averaged}), state


def difference(leaf: np.ndarray, server: np.ndarray) -> np.ndarray:
    """leaf - server, in float32, or in float64 between wider types than that."""
    dtype = np.float32 if server.dtype in (np.float16, np.float32) else np.float64
    with np.errstate(over="ignore", invalid="ignore"):  # who asks looks for NaN and infinity
        return np.subtract(leaf, server, dtype=dtype)


def fill_places(
    deltas: Mapping[str, np.ndarray], weights: np.ndarray, places: int | None
) -> tuple[Arrays, np.ndarray]:
    """Deltas and weights for exactly `places` clients, or for as many as came if that is None.

    In every empty place stands delta = sum_k w_k delta_k / sum_k w_k with weight = mean_k w_k: the weighted mean
    over all places is that over the clients that came.

    Args:
      deltas: leaves [K, ...]; weights: [K].
    """
    empty = 0 if places is None else max(places - len(weights), 0)

    def fill(leaf: np.ndarray) -> np.ndarray:
        mean = np.asarray(_mean(leaf, weights), leaf.dtype)
        return np.concatenate([leaf, np.broadcast_to(mean, (empty, *mean.shape))])

    if not empty:
        return dict(deltas), weights
    filled = {name: fill(leaf) for name, leaf in deltas.items()}
    return filled, np.concatenate([weights, np.full(empty, weights.mean())])


def _mean(leaf: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weighted mean over the leading axis."""
    return np.tensordot(weights / weights.sum(), leaf, axes=1)


def _like(server: Arrays, arrays: Mapping[str, Any]) -> Arrays:
    """In the server's order and dtypes; what is averaged is rounded for an integer dtype."""

    def cast(leaf: Any, dtype: np.dtype) -> np.ndarray:
        return np.asarray(np.rint(leaf) if np.issubdtype(dtype, np.integer) else leaf, dtype)

    return {name: cast(arrays[name], leaf.dtype) for name, leaf in server.items()}
