"""How good a class's samples are: against the real embeddings that the generator was trained on."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

LOW_COSINE = 0.7
"""A class whose samples are less like its real embeddings is warned about."""

Flat = Float[np.ndarray, "n X"]


class Quality(NamedTuple):
    """cosine: of the samples' mean to the mean of the real embeddings. sample_cosine: the mean cosine of a sample to
    the latter; real_cosine: of a real one to it, which says how high it can be.

    spread: root mean square distance of the samples from their mean, over that of the real ones from theirs.
    nearest: median distance of a sample to the nearest training example, over the root of the numbers; real_nearest: of
    a training example to the nearest other one. A nearest far below the real one says that examples were copied.
    """

    cosine: float
    sample_cosine: float
    real_cosine: float
    spread: float
    nearest: float
    real_nearest: float


def quality(samples: Flat, real: Flat) -> Quality:
    """Of one class; flattened embeddings.

    Example:
      >>> real = np.array([[0.0, 1.0], [0.0, 3.0]])
      >>> quality(real, real).spread, quality(real, real).nearest
      (1.0, 0.0)
    """
    centre = real.mean(axis=0)
    return Quality(
        _cosine(samples.mean(axis=0, keepdims=True), centre),
        _cosine(samples, centre),
        _cosine(real, centre),
        float(_spread(samples) / max(_spread(real), 1e-12)),
        _nearest(samples, real, same=False),
        _nearest(real, real, same=True),
    )


def _cosine(many: Flat, centre: np.ndarray) -> float:
    norms = np.linalg.norm(many, axis=1) * np.linalg.norm(centre)
    return float(np.mean(many @ centre / np.maximum(norms, 1e-12)))


def _spread(many: Flat) -> float:
    return float(np.sqrt(np.mean(np.sum((many - many.mean(axis=0)) ** 2, axis=1))))


def _nearest(some: Flat, others: Flat, *, same: bool) -> float:
    if same and len(others) < 2:
        return float("nan")
    squares = np.sum(some**2, 1)[:, None] + np.sum(others**2, 1) - 2 * some @ others.T
    squares = np.maximum(squares, 0.0)
    if same:
        np.fill_diagonal(squares, np.inf)
    return float(np.median(np.sqrt(squares.min(axis=1) / some.shape[1])))


def components(real: Flat, count: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """(mean [X], the first principal axes [count, X]) of real embeddings."""
    mean = real.mean(axis=0)
    _, _, axes = np.linalg.svd(real - mean, full_matrices=False)
    # A sign that does not depend on the library: the largest number of an axis is positive.
    axes = axes[:count]
    return mean, axes * np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]
