"""Small tables whose classes nothing predicts for sure: who fits faster overfits sooner. Nothing to download."""

import numpy as np

from learned_aggregation.data import TABLES, DataOptions, Description
from learned_aggregation.types import SPLITS, Dataset, Split

ROWS = {"noisy": 300, "noisyfew": 100}
"""Name -> rows to train on."""
OTHER_ROWS = (1000, 500, 500)
"""Rows of the other splits: enough to see the overfitting in."""
CERTAINTY = 8.0
"""Standard deviation of the logit that classes are drawn with, over rows; in expectation over teachers."""


def load(name: str, size: int, options: DataOptions) -> Dataset:
    """Rows x of standard normal numbers, each of class 1 with probability 1 / (1 + exp(-CERTAINTY * x . w)).

    w ~ N(0, 1 / size) is one for the data set. An MLP trained to a training loss of 0 has a test loss that is far above
    the best one: the aggregator lagg-bank is meta-trained on these tables for that.

    Args:
      name: `noisy` (300 rows to train on) or `noisyfew` (100).
      size: the number of features, 20.
      options: not used: rows are the same in every run.
    Returns:
      A Dataset with features float32 [N, size] and label int32 [N]; N is 300 or 100, 1000, 500 and 500.

    Example:
      >>> load("noisy", 20, DataOptions()).splits["train"].examples["features"].shape
      (300, 20)
    """
    rng = np.random.default_rng([size, ROWS[name]])
    sizes = (ROWS[name], *OTHER_ROWS)
    features = rng.normal(size=(sum(sizes), size)).astype(np.float32)
    teacher = rng.normal(size=size) / np.sqrt(size)
    chance = 1 / (1 + np.exp(-CERTAINTY * (features @ teacher)))
    label = (rng.random(len(features)) < chance).astype(np.int32)
    parts = np.split(np.arange(len(features)), np.cumsum(sizes)[:-1])
    splits = {
        split: Split({"features": features[rows], "label": label[rows]})
        for split, rows in zip(SPLITS, parts, strict=True)
    }
    return Dataset(name, splits, 2)


def describe(name: str, size: int, options: DataOptions) -> Description:
    return Description("table", (TABLES[name],), 2, "embedded: drawn rows with noisy classes", 0)
