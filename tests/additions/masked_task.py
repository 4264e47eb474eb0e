"""A self-supervised task: pixels behind a mask that is drawn anew at each step are rebuilt from the others."""

from additions import Addition, Edit

OBJECTIVE = '''"""Masked pixels, rebuilt from the others."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from learned_aggregation.tasks.flax_task import flax_task, image_inputs
from learned_aggregation.tasks.objectives import Objective
from learned_aggregation.types import Dataset, Metric, Task

SHARE = 0.75


def masked_pixels(name: str, model: nn.Module, dataset: Dataset) -> Task:
    """The model's outputs are the pixels; loss and metric are the mean squared error of those that were hidden."""
    inputs = image_inputs(dataset)

    def draw(key, batch):
        image = inputs(batch)
        hidden = jax.random.bernoulli(key, SHARE, image.shape)
        return {"seen": jnp.where(hidden, 0.0, image), "image": image, "hidden": hidden}

    def measure(predicted, drawn):
        error = (predicted.reshape(drawn["image"].shape) - drawn["image"]) ** 2
        shown = jnp.sum(error * drawn["hidden"], (1, 2, 3)), jnp.sum(drawn["hidden"], (1, 2, 3))
        return {"loss": shown[0] / jnp.maximum(shown[1], 1)}

    shape = dataset.splits["train"].examples["image"].shape[1:]
    metrics = (Metric("loss", unit="squared inputs"),)
    plain = flax_task(name, model, jnp.zeros((1, *shape)), lambda drawn: drawn["seen"], measure, metrics)
    return plain._replace(
        loss=lambda params, state, key, batch: plain.loss(params, state, key, draw(key, batch)),
        evaluate=lambda params, state, key, batch: plain.evaluate(params, state, key, draw(key, batch)),
    )


OBJECTIVE = Objective(("image",), lambda about: 64, masked_pixels)
'''

SCRIPT = """
import csv, pathlib, sys
import jax, numpy as np
import learned_aggregation
from learned_aggregation import cli
from learned_aggregation.tasks import make_task

assert learned_aggregation.__path__ == [sys.argv[1]]
task, data = make_task("mlp16_digits_8", objective="masked_pixels")
params, state = task.init(jax.random.key(0))
batch = {name: leaf[:8] for name, leaf in data.splits["train"].examples.items()}
first, again, other = (task.evaluate(params, state, jax.random.key(k), batch)["loss"] for k in (0, 0, 1))
np.testing.assert_array_equal(first, again)
assert np.all(first != other)  # another mask

sizes = ["--num_grads=2", "--num_local_steps=4", "--local_batch_size=16", "--num_inner_steps=20", "--num_runs=2"]
which = ["--task=mlp16_digits_8", "--objective=masked_pixels", "--optimizer=fedavg", "--run_dir=run"]
assert cli.main(["--run_type=benchmark", *which, *sizes]) == 0
losses = [float(row["test_loss"]) for row in csv.DictReader(open("run/rounds.csv")) if row["test_loss"]]
assert losses[-1] < 0.8 * losses[0], losses
assert pathlib.Path("run/report.html").exists()
"""

ADDITION = Addition(
    files={"tasks/objectives/masked_pixels.py": OBJECTIVE},
    edits=(
        Edit(
            "tasks/objectives/__init__.py",
            after='"classification": f"{_HERE}.classification:OBJECTIVE",',
            line='"masked_pixels": f"{_HERE}.masked_pixels:OBJECTIVE",',
        ),
    ),
    script=SCRIPT,
)
