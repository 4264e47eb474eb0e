"""What the tests of the setting `datasets` share: labelled squares by writers, and how they are loaded."""

import numpy as np

from learned_aggregation.data import DataOptions, load_dataset

N = 60
LABELS = np.arange(N) % 3
IMAGES = (np.random.default_rng(0).integers(0, 50, (N, 6, 6)) + 80 * LABELS[:, None, None]).astype(np.uint8)
WRITERS = np.array([f"w{i % 5}" for i in range(N)])


def options(whole_mb=None, **entry):
    return DataOptions(datasets={"mine": entry}, whole_mb=whole_mb)


def load(size=6, **entry):
    return load_dataset("mine", size, options(**entry))
