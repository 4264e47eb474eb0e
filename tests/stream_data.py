"""Numbered images of three clients, and the windows of their stream."""

import itertools

import jax
import numpy as np

from learned_aggregation.data.streaming import Stream, Streaming, windows_of
from learned_aggregation.devices.parallel import everywhere, job_mesh
from learned_aggregation.types import Split

ROWS = [np.arange(0, 70), np.arange(70, 80), np.arange(80, 200)]
"""Three clients; the middle one is smaller than the windows below."""


def numbered(count: int = 200, side: int = 8) -> Split:
    """Random images; the label of each is its number."""
    image = np.random.default_rng(0).integers(1, 256, size=(count, side, side, 1), dtype=np.uint8)
    return Split({"image": image, "label": np.arange(count, dtype=np.int32)})


def stream(**options) -> Stream:
    return Stream(numbered(), ROWS, Streaming(**({"window": 30, "fresh": 7, "seed": 3} | options)))


def first_windows_of(data, count: int, start: int = 0) -> list[dict[str, np.ndarray]]:
    with windows_of(data, everywhere(job_mesh(1)), start) as windows:
        return [jax.tree.map(np.asarray, w.examples) for w in itertools.islice(windows, count)]


def assert_same(one, other) -> None:
    jax.tree.map(np.testing.assert_array_equal, one, other)
