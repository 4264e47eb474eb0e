"""An order of examples whose every stretch is alike, for splits that are the same in every run."""

import numpy as np


def stratified_order(labels: np.ndarray) -> np.ndarray:
    """An order of the examples in which every stretch has the classes in their overall proportions.

    Args:
      labels: int [N].
    Returns:
      A permutation of 0..N-1; the same in every run and with every NumPy.
    """
    # RandomState's stream is frozen, Generator's is not: the split must not change with NumPy.
    order = np.random.RandomState(0).permutation(len(labels))
    place = np.empty(len(labels))
    for label in np.unique(labels):
        rows = order[labels[order] == label]
        place[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
    return order[np.argsort(place[order], kind="stable")]


def quantile_bins(values: np.ndarray, count: int = 10) -> np.ndarray:
    """int [N]: which of `count` bins of nearly equal size each value is in, from the lowest; ties share a bin.

    Example:
      >>> quantile_bins(np.array([5.0, 1.0, 9.0, 7.0]), 2).tolist()
      [0, 0, 1, 1]
    """
    rank = np.searchsorted(np.sort(values), values)
    return (rank * count // len(values)).astype(np.int32)
