"""A Flower Grid whose replies are pulled one by one, when they are asked for. No flwr here."""

import time
from collections.abc import Iterable, Iterator
from typing import Any

PAUSE = 3.0
"""Seconds between two looks for replies, where the grid does not say: as long as Flower's waits."""


class OneByOne:
    """The grid, with a `send_and_receive` that holds one reply at a time; everything else is the grid's.

    Flower's returns a list of all replies, which takes the memory of all the clients' models.
    """

    def __init__(self, grid: Any):
        self._grid = grid

    def __getattr__(self, name: str) -> Any:
        return getattr(self._grid, name)

    def send_and_receive(self, messages: Iterable[Any], *, timeout: float | None = None) -> Iterator[Any]:
        """Sends the messages at once; the replies come from the iterator as they arrive, until all have or in vain.

        A reply that has arrived by `timeout` seconds from now is there, however long the caller takes over the others.
        """
        end = None if timeout is None else time.monotonic() + timeout
        sent = [number for number in self._grid.push_messages(list(messages)) if number is not None]
        return self._replies(sent, end)

    def _replies(self, waiting: list[str], end: float | None) -> Iterator[Any]:
        pause = getattr(self._grid, "pull_interval", PAUSE)
        while waiting:
            late = end is not None and time.monotonic() >= end
            for number in list(waiting):
                arrived = list(self._grid.pull_messages([number]))
                if arrived:
                    waiting.remove(number)
                while arrived:
                    yield arrived.pop()  # kept by nobody here while the next one is pulled
            if late:
                return
            if waiting:
                time.sleep(pause if end is None else max(min(pause, end - time.monotonic()), 0.0))
