"""Several trackers as one."""

from collections.abc import Mapping, Sequence

from learned_aggregation.runs.trackers import Tracker


class CompositeTracker:
    """Logs to each of `trackers` in turn; none logs nowhere."""

    def __init__(self, trackers: Sequence[Tracker]):
        self._trackers = tuple(trackers)

    def log(self, step: int, row: Mapping[str, float]) -> None:
        """Logs the row to every tracker."""
        for tracker in self._trackers:
            tracker.log(step, row)

    def close(self) -> None:
        """Closes every tracker."""
        for tracker in self._trackers:
            tracker.close()
