"""One process at a time in a directory: whoever comes second is told who is there."""

import contextlib
import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from learned_aggregation.errors import UserError
from learned_aggregation.json_text import parse_json

LOCK = ".lock"
"""The file's name; it says who holds it, for people. The kernel's lock on it counts, and ends with its process."""


@contextlib.contextmanager
def lock(directory: Path) -> Iterator[None]:
    """Holds an existing directory while the body runs.

    A lock of a process that died, killed or not, is taken over; so is a file that was copied from elsewhere. On a file
    system without locks nothing is held.

    Raises:
      UserError: another process holds it; its id, its machine and since when.
    """
    path = directory / LOCK
    descriptor = _taken(path)
    if descriptor is None:
        yield
        return
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, (json.dumps(_this_process()) + "\n").encode())
        yield
    finally:
        # Removed while it is held: whoever opened the old file meanwhile sees that it is gone, and tries again.
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _taken(path: Path) -> int | None:
    """The open file, locked; None where the file system has no locks.

    Raises:
      UserError: it is held, or cannot be made.
    """
    try:
        import fcntl
    except ImportError:  # not on this system
        return None
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise UserError(
                f"{path.parent}: expected a directory that can be written, got {error.strerror!r}. "
                "Change its permissions, or choose another."
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(path, descriptor):
                return descriptor
        except OSError as error:
            holder = _holder(descriptor)
            os.close(descriptor)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                return None
            raise UserError(
                f"{path.parent}: expected a directory that no other run writes, got one that is held by {holder}. "
                "Wait for it, stop it, or choose another name."
            ) from None
        os.close(descriptor)


def _is_still(path: Path, descriptor: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    return False


def _this_process() -> dict[str, str | int]:
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": since}


def _holder(descriptor: int) -> str:
    try:
        found = parse_json(os.pread(descriptor, 1000, 0))
        return f"process {found['pid']:d} on {found['host']!r:.80} since {found['since']!s:.40}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"  # one that is just writing it
