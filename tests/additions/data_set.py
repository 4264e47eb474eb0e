"""A data set."""

from additions import Addition, Edit

DATA_SET = '''"""Squares of one brightness for each class, in noise."""

import numpy as np

from learned_aggregation.data import DataOptions, Description
from learned_aggregation.types import SPLITS, Dataset, Split

NUM_CLASSES = 3


def load(name: str, size: int, options: DataOptions) -> Dataset:
    """40 images of each split: uint8 [40, size, size, 1]."""
    random, splits = np.random.default_rng(options.seed), {}
    for split in SPLITS:
        label = (np.arange(40) % NUM_CLASSES).astype(np.int32)
        noise = random.integers(0, 50, (40, size, size, 1))
        splits[split] = Split({"image": (noise + 100 * label[:, None, None, None]).astype(np.uint8), "label": label})
    return Dataset(name, splits, NUM_CLASSES, 1 / 255)


def describe(name: str, size: int, options: DataOptions) -> Description:
    return Description("image", (size, size, 1), NUM_CLASSES, "generated: squares in noise")
'''

SCRIPT = """
import csv, sys
from pathlib import Path
import learned_aggregation
from learned_aggregation import cli

assert learned_aggregation.__path__ == [sys.argv[1]]
rates = ["--optimizer=fedavg", "--local_learning_rate=0.5", "--local_batch_size=8", "--num_grads=2"]
sizes = ["--num_local_steps=4", "--num_inner_steps=20", "--num_runs=1", "--name=squares"]
assert cli.main(["--run_type=benchmark", "--task=mlp8_squares_5", *rates, *sizes]) == 0
with open(Path("runs") / "squares" / "rounds.csv", newline="") as file:
    losses = [float(row["test_loss"]) for row in csv.DictReader(file)]
assert losses[-1] < 0.5 * losses[0], losses
"""

ADDITION = Addition(
    files={"data/squares.py": DATA_SET},
    edits=(Edit("data/__init__.py", after='"digits": "digits",', line='"squares": "squares",'),),
    script=SCRIPT,
)
