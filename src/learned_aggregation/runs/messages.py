"""What a run tells people while it works: lines on stderr, tables, bars; nothing at all where it is to be silent."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from learned_aggregation import streams

_SHOWN: ContextVar[bool] = ContextVar("shown", default=True)


def shown() -> bool:
    """Whether anything is to be printed here."""
    return _SHOWN.get()


def say(text: str) -> None:
    """A line on stderr."""
    if shown():
        streams.say(text)


@contextmanager
def silent(wanted: bool = True) -> Iterator[None]:
    """Within the context, in this thread, nothing is printed; what the Python API runs in unless it is `verbose`."""
    token = _SHOWN.set(shown() and not wanted)
    try:
        yield
    finally:
        _SHOWN.reset(token)
