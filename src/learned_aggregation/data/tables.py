"""Two tables that come inside scikit-learn, one with classes and one with numbers to predict: nothing to download."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from learned_aggregation.data import TABLES, DataOptions, Description
from learned_aggregation.data.stratified import quantile_bins, stratified_order
from learned_aggregation.types import SPLITS, Dataset, Split


class _Table(NamedTuple):
    """read: () -> (features [N, F], what is predicted [N]); sizes: of the splits, N in all."""

    read: Callable[[], tuple[np.ndarray, np.ndarray]]
    sizes: tuple[int, ...]
    num_classes: int
    source: str


def _breast() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_breast_cancer

    features, label = load_breast_cancer(return_X_y=True)
    return features, np.asarray(label, np.int32)


def _diabetes() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_diabetes

    features, target = load_diabetes(return_X_y=True, scaled=False)
    return np.asarray(features), np.asarray(target)


SETS = {
    "breast": _Table(_breast, (341, 57, 57, 114), 2, "embedded: scikit-learn's breast cancer table"),
    "diabetes": _Table(_diabetes, (266, 44, 44, 88), 0, "embedded: scikit-learn's diabetes table"),
}


def load(name: str, size: int, options: DataOptions) -> Dataset:
    """569 tumours, benign or malignant (breast), or 442 patients and their disease a year on (diabetes).

    One fixed split, 60, 10, 10 and 20 %, stratified by class or by tenths of the target. Features are standardised,
    (x - mean) / deviation, with the mean and the deviation of the train split; targets are as they come.

    Args:
      name: `breast` or `diabetes`.
      size: the number of features, 30 or 10.
      options: not used: the split is the same in every run.
    Returns:
      A Dataset with features float32 [N, size] and label int32 [N], or target float32 [N, 1].
    References:
      Street, Wolberg & Mangasarian, "Nuclear feature extraction for breast tumor diagnosis", 1993; Efron et al.,
      "Least angle regression", Annals of Statistics 32, 2004.

    Example:
      >>> load("breast", 30, DataOptions()).splits["train"].examples["features"].shape
      (341, 30)
    """
    table = SETS[name]
    features, predicted = table.read()
    strata = predicted if table.num_classes else quantile_bins(predicted)
    parts = np.split(stratified_order(strata), np.cumsum(table.sizes)[:-1])
    mean, deviation = features[parts[0]].mean(0), features[parts[0]].std(0)
    inputs = ((features - mean) / deviation).astype(np.float32)
    outputs = {"label": predicted} if table.num_classes else {"target": predicted[:, None].astype(np.float32)}
    splits = {
        split: Split({"features": inputs[rows], **{leaf: values[rows] for leaf, values in outputs.items()}})
        for split, rows in zip(SPLITS, parts, strict=True)
    }
    return Dataset(name, splits, table.num_classes)


def describe(name: str, size: int, options: DataOptions) -> Description:
    table = SETS[name]
    kind, targets = ("table", 0) if table.num_classes else ("regression", 1)
    return Description(kind, (TABLES[name],), table.num_classes, table.source, targets)
