"""What the tasks of a run measure, and which of it decides a sweep."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from learned_aggregation import build
from learned_aggregation.config.resolve import Config
from learned_aggregation.errors import UserError
from learned_aggregation.meta_testing.evaluation import measured
from learned_aggregation.registry import nearest
from learned_aggregation.ssl.probes import probe_metrics
from learned_aggregation.types import Metric

SPLITS = ("outer_valid", "test")
"""The splits that every meta-test evaluates."""
LOSSES = ("train_loss", "outer_valid_loss", "test_loss")
"""The results that every task has; one that is not finite says that the run diverged."""

Measured = Mapping[str, Sequence[Metric]]
"""task -> its metrics, the loss first."""


def measured_by(loaded: Mapping[str, build.TaskData]) -> dict[str, tuple[Metric, ...]]:
    """The metrics of each task, those included that it does not list."""
    return {name: measured(data.task, data.dataset.splits["test"].examples) for name, data in loaded.items()}


def with_probes(metrics: Measured, probes: Sequence[str]) -> dict[str, tuple[Metric, ...]]:
    """The metrics of each task and, after them, the run's probes, of the test split alone."""
    return {task: (*found, *probe_metrics(probes)) for task, found in metrics.items()}


def metric_columns(metrics: Iterable[Metric]) -> dict[str, Metric]:
    """A sweep's columns for a task: the training loss, then each metric on each of SPLITS."""
    metrics = list(metrics)
    return {"train_loss": metrics[0]} | {f"{split}_{m.name}": m for split in SPLITS for m in metrics}


def task_configs(configs: Iterable[Config]) -> dict[str, Config]:
    """Each task of a sweep with the first config that has it.

    Raises:
      UserError: a config with several tasks.
    """
    found: dict[str, Config] = {}
    for config in configs:
        task, *others = config.tasks
        if others:
            raise UserError(
                f"task: expected one task in each point of a sweep, got {list(config.tasks)}. "
                "Sweep over task, or name one."
            )
        found.setdefault(task, config)
    return found


def sweep_metric(metric: Mapping[str, Any], by_task: Measured) -> dict[str, Any]:
    """A sweep's `metric` with its goal: the user's, else the metric's own direction.

    Args:
      metric: of a checked `sweep_config`: a name, perhaps a goal.
    Raises:
      UserError: a name that some task does not measure; no goal where the tasks disagree about the direction.
    """
    name, directions = metric["name"], set()
    for task, metrics in by_task.items():
        columns = {n: m for n, m in metric_columns(metrics).items() if not n.startswith("test_")}
        if name not in columns:
            hint = nearest(name, columns).strip() or "Name one of them."
            raise UserError(
                f"sweep_config.metric.name: expected a metric of {task}, one of {', '.join(columns)}, got {name!r}. "
                f"{hint}"
            )
        directions.add(columns[name].higher_is_better)
    if "goal" in metric:
        return dict(metric)
    if len(directions) > 1:
        raise UserError(
            f"sweep_config.metric.goal: expected minimize or maximize, as the tasks disagree about {name}, got None. "
            "Give goal."
        )
    return {"name": name, "goal": "maximize" if directions.pop() else "minimize"}
