"""A progress bar with rate and ETA on a terminal; a plain line at even times elsewhere."""

import contextlib
import sys
import time
from collections.abc import Mapping

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from learned_aggregation.runs import messages
from learned_aggregation.streams import say

SECONDS_BETWEEN_LINES = 20.0
"""Off a terminal there is a line at the first step after each multiple of this, and at the last step."""


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
        self._began, self._ticks = time.monotonic(), 0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            disable=not (self._shown and _is_terminal()),
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
        seconds = time.monotonic() - self._began
        # By the clock from the start on: counted from the last line, each would come later than the one before.
        ticks = int(seconds / SECONDS_BETWEEN_LINES)
        if done == self._total or ticks > self._ticks:
            self._ticks = ticks
            left = (self._total - done) * seconds / max(1, done - self._start)
            say(f"{self._what}: {done}/{self._total}  ETA {left:.0f} s  {text}".rstrip())

    def close(self) -> None:
        self._bar.stop()


def _is_terminal() -> bool:
    with contextlib.suppress(AttributeError, ValueError):  # there is none, or it is closed
        return sys.stderr.isatty()
    return False


def _stderr_console():
    from rich.console import Console

    return Console(stderr=True)
