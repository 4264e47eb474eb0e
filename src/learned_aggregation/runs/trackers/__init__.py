"""Where a run's metrics go: one row of numbers per step, to one or several places."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from learned_aggregation.registry import Registry, checked


class Tracker(Protocol):
    """Receives the metrics of a run, already on the host."""

    def log(self, step: int, row: Mapping[str, float]) -> None:
        """Records the metrics of one step; steps ascend."""

    def close(self) -> None:
        """Flushes and releases what the tracker holds; call it once."""


TRACKERS = Registry(
    "tracker",
    {
        "csv": "learned_aggregation.runs.trackers.csv:make",
        "wandb": "learned_aggregation.runs.trackers.wandb:make",
    },
)


def make_tracker(
    names: Sequence[str],
    run_dir: str | Path,
    *,
    resume_step: int | None = None,
    config: Mapping[str, Any] | None = None,
    **options: Any,
) -> Tracker:
    """The tracker that logs to each of `names`.

    Args:
      names: of `TRACKERS`; none is allowed and logs nowhere.
      run_dir: where the run's files go.
      resume_step: the step a resumed run starts from; what was logged after it is dropped. None
        for a new run.
      config: the resolved config, recorded where the tracker has a place for it.
      options: for the trackers that know them: wandb_mode, wandb_dir, project, name.
    Raises:
      UserError: an unknown name, or a tracker whose library is not installed.
    """
    from learned_aggregation.runs.trackers.composite import CompositeTracker

    made = {
        name: TRACKERS[name](run_dir, resume_step=resume_step, config=config or {}, **options)
        for name in names
    }
    return CompositeTracker([checked("tracker", name, one, ("log", "close")) for name, one in made.items()])
