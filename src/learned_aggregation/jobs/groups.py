"""Runs points (settings) x seeds of a config, those that differ in rates only in one program."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from learned_aggregation import build
from learned_aggregation.atomic import write_atomic
from learned_aggregation.config.resolve import Config
from learned_aggregation.data.partitions import class_counts, split_labels
from learned_aggregation.devices.distributed import runtime_error
from learned_aggregation.devices.parallel import job_mesh, jobs_at_once
from learned_aggregation.meta_testing.points import Point
from learned_aggregation.meta_testing.program import Budget, Curves, Program, Saving
from learned_aggregation.runs.progress import ProgressBar
from learned_aggregation.types import FederatedData, Server, Task, Theta

EVALUATIONS = 50
"""About how many evaluations a run has when `eval_every` is not given."""


class Group(NamedTuple):
    """The points that share every setting but their rates: one compiled program."""

    config: Config
    points: list[int]


def group_points(config: Config, points: Sequence[Point]) -> list[Group]:
    """Groups the indices of `points` by their settings other than rates, in order of appearance."""
    groups: dict[str, Group] = {}
    for index, point in enumerate(points):
        whole = config.changed(point)
        static = {name: value for name, value in point.items() if build.rate_name(whole, name) is None}
        key = json.dumps(static, sort_keys=True, default=str)
        groups.setdefault(key, Group(config.changed(static), [])).points.append(index)
    return list(groups.values())


def point_rates(config: Config, points: Sequence[Point], repeats: int) -> dict[str, np.ndarray]:
    """Each rate's value in every job: points x repeats, points outermost."""
    rates_of_points = [build.rates_of(config.changed(point)) for point in points]
    return {
        name: np.repeat([rates[name] for rates in rates_of_points], repeats) for name in rates_of_points[0]
    }


def take(curves: Curves, jobs: slice) -> Curves:
    """Some of the jobs."""
    evaluated = {name: values[jobs] for name, values in curves.evaluated.items()}
    probed = {name: values[jobs] for name, values in curves.probed.items()}
    return Curves(curves.train_loss[jobs], curves.eval_rounds, evaluated, probed)


class GroupRunner:
    """Runs points that differ in rates only: one compiled program for all of them.

    Args:
      splits: what is evaluated.

    `streams` says whether the training data is read in windows.
    """

    def __init__(self, config: Config, loaded: build.TaskData, theta: Theta, splits: Sequence[str]):
        self._config, self._rounds = config, config.num_inner_steps
        setting, self._shared = build.meta_test(config, loaded, theta, splits)
        self.streams = not isinstance(self._shared.train, FederatedData)
        every = config.eval_every or max(1, self._rounds // EVALUATIONS)
        budget = Budget(self._rounds, every, jobs_at_once(config.tasks_per_chunk), config.probe_every)
        self._program = Program(setting, budget, job_mesh(len(jax.devices()), config.num_devices))

    def run(self, points: Sequence[Point], seeds: Sequence[int], what: str) -> list[Curves]:
        """Each point with every seed: one Curves (jobs = seeds) a point. `what` names the progress bar.

        Raises:
          RunError: the device ran out of memory, or failed.
        """
        found = self.run_saved(points, seeds, what, None, None)
        assert found is not None, "nothing stops a run that is not saved"
        return found

    def run_saved(
        self,
        points: Sequence[Point],
        seeds: Sequence[int],
        what: str,
        saving: Saving | None,
        on_end: Callable[[Task, Server], None] | None,
    ) -> list[Curves] | None:
        """`run`, kept by `saving` while it goes on (None where that stopped it); `on_end` as in `Program.run`.

        Raises:
          RunError: the device ran out of memory, or failed.
        """
        bar = ProgressBar(what, self._rounds)
        try:
            curves = self._program.run(
                self._shared,
                point_rates(self._config, points, len(seeds)),
                np.tile(np.asarray(seeds), len(points)),
                lambda done: bar.update(done, {}),
                saving,
                on_end,
            )
        except jax.errors.JaxRuntimeError as error:
            raise runtime_error(error) from error
        finally:
            bar.close()
        if curves is None:
            return None
        return [take(curves, slice(i * len(seeds), (i + 1) * len(seeds))) for i in range(len(points))]


def write_partition(path: Path, loaded: build.TaskData) -> None:
    """partition.csv: how many examples of each class each client has; none for a shared pool."""
    if len(loaded.rows) == 1:
        return
    train = loaded.dataset.splits["train"]
    num_classes = loaded.dataset.num_classes if "label" in train.examples else 1
    counts = class_counts(loaded.rows, split_labels(train), num_classes)
    lines = [",".join(["client", *(f"class_{c}" for c in range(counts.shape[1]))])]
    lines += [",".join(map(str, [client, *row])) for client, row in enumerate(counts.tolist())]
    write_atomic(path / "partition.csv", "\n".join(lines) + "\n")
