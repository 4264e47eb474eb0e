"""SIGINT and SIGTERM as a request to stop at the next safe point."""

import os
import signal
from types import TracebackType


class StopRequest:
    """A context in which SIGINT and SIGTERM are remembered instead of raised.

    A second SIGINT raises KeyboardInterrupt at once. The previous handlers come back at the end.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __enter__(self) -> "StopRequest":
        self._previous = {s: signal.signal(s, self._remember) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: object) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)
        # Not print: the signal may have come in the middle of one.
        os.write(2, f"{self.signal.name}: saving after this step; a second SIGINT stops at once\n".encode())

    @property
    def exit_status(self) -> int:
        """128 + the signal's number, as shells report it; 0 when none came."""
        return 128 + self.signal if self.signal is not None else 0
