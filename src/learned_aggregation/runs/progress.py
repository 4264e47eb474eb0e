"""A progress bar with rate and ETA on a terminal; a plain line now and then elsewhere."""

import sys
import time
from collections.abc import Mapping

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from learned_aggregation.runs import messages

_SECONDS_BETWEEN_LINES = 20.0


class ProgressBar:
    """Shows how far a long work is.

    Args:
      what: the work, such as "meta-training".
      total, start: its steps, and those already done.
      shown: False for the processes of a run that stay silent.
    """

    def __init__(self, what: str, total: int, start: int = 0, shown: bool = True):
        self._shown = shown and messages.shown()
        self._what, self._total, self._start = what, total, start
        self._began = self._last_line = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            disable=not (self._shown and sys.stderr.isatty()),
            console=_stderr_console(),
        )
        self._task = self._bar.add_task(what, total=total, completed=start, figures="")
        self._bar.start()

    def update(self, done: int, figures: Mapping[str, str]) -> None:
        """Moves the bar to `done` of the total and shows `figures` (name -> text) beside it."""
        text = "  ".join(f"{name} {value}" for name, value in figures.items())
        if not self._shown:
            return
        if not self._bar.disable:
            self._bar.update(self._task, completed=done, figures=text)
            return
        now = time.monotonic()
        if done == self._total or now - self._last_line > _SECONDS_BETWEEN_LINES:
            self._last_line = now
            left = (self._total - done) * (now - self._began) / max(1, done - self._start)
            print(
                f"{self._what}: {done}/{self._total}  ETA {left:.0f} s  {text}", file=sys.stderr, flush=True
            )

    def close(self) -> None:
        self._bar.stop()


def _stderr_console():
    from rich.console import Console

    return Console(stderr=True)
