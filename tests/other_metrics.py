"""A task that is no classifier, as far as it is measured: a loss in dB, r2, a mask's IoU, and something unlisted."""

import jax.numpy as jnp

from learned_aggregation import build
from learned_aggregation.types import Metric, Task

METRICS = (
    Metric("loss", unit="dB"),
    Metric("r2", higher_is_better=True),
    Metric("mask_iou", higher_is_better=True, unit="%"),
)
UNLISTED = Metric("nmse")
TASK = "mlp5_digits_8"
"""The name of the task that measures these with `measure_otherwise`."""


def otherwise(task: Task) -> Task:
    """The task measured by METRICS and UNLISTED."""

    def evaluate(params, model_state, key, batch):
        found = task.evaluate(params, model_state, key, batch)
        error = found["loss"] / jnp.log(10.0)
        return {
            "mask_iou": found["accuracy"],
            "r2": 1 - error,
            "loss": 10 * jnp.log10(error),
            "nmse": error,
        }

    def loss(params, model_state, key, batch):
        value, extra = task.loss(params, model_state, key, batch)
        return 10 * jnp.log10(value / jnp.log(10.0)), extra

    return task._replace(loss=loss, evaluate=evaluate, metrics=METRICS)


def measure_otherwise(monkeypatch) -> None:
    """Has TASK measured by METRICS; other tasks stay classifiers."""
    load = build.Loader.load

    def changed(self, config, task):
        loaded = load(self, config, task)
        return loaded._replace(task=otherwise(loaded.task)) if task == TASK else loaded

    monkeypatch.setattr(build.Loader, "load", changed)
