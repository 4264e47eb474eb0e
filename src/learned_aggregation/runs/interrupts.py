"""SIGINT and SIGTERM as a request to stop at the next safe point."""

import os
import signal
import threading
from types import TracebackType


class StopRequest:
    """A context in which SIGINT and SIGTERM are remembered instead of raised.

    A second SIGINT raises KeyboardInterrupt at once. The previous handlers come back at the end. Outside the main
    thread, where Python lets nobody handle signals, they are left as they are.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __enter__(self) -> "StopRequest":
        handled = (
            (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
        )
        self._previous = {s: signal.signal(s, self._remember) for s in handled}
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
