"""Standard output and error, whatever has become of them: closed, a pipe without a reader, a full disk."""

import contextlib
import os
import sys
from collections.abc import Iterator

from learned_aggregation.errors import RunError


def open_closed() -> None:
    """Opens nothing in the place of closed standard streams, as a daemon's are.

    Else the next file that is opened would have their number, and get what libraries print.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))  # noqa: SIM115


def show_any_text() -> None:
    """Lets a locale that lacks a character show its number instead."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]


def say(text: str) -> None:
    """A line on standard error, if there is one that takes it: no run ends for want of a terminal."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        print(text, file=sys.stderr or _Nowhere(), flush=True)


class _Nowhere:
    def write(self, text: str) -> None:
        """Nothing."""

    def flush(self) -> None:
        """Nothing."""


@contextlib.contextmanager
def to_stdout() -> Iterator[None]:
    """For whatever prints results: a reader that is gone is no error, and the rest of the output goes nowhere.

    Raises:
      RunError: standard output cannot be written (a full disk).
    """
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        _drop_stdout()
    except OSError as error:
        _drop_stdout()
        raise RunError(
            f"standard output: expected to write it, got {error.strerror!r}. What the run has written is there: see "
            "its report."
        ) from None


def _drop_stdout() -> None:
    """What is still in the buffer, or is printed from now on, is lost quietly, also when Python ends."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
