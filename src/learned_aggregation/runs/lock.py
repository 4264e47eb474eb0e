"""One process at a time in a directory: whoever comes second is told who is there."""

import contextlib
import errno
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from learned_aggregation.errors import UserError
from learned_aggregation.json_text import parse_json

LOCK = ".lock"
"""The file's name; it says who holds it, for people. The kernel's lock on it counts, and ends with its process."""


@contextlib.contextmanager
def lock(directory: Path, name: str = LOCK, wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Holds an existing directory, or the name of one thing in it, while the body runs.

    A lock of a process that died, killed or not, is taken over; so is a file that was copied from elsewhere. On a file
    system without locks nothing is held.

    Args:
      name: of the lock's file: two names in one directory do not hinder each other.
      wait: where another process holds it, is told so in one line, and it is waited for; None refuses.
    Raises:
      UserError: another process holds it and nobody waits: its id, its machine and since when. Or it cannot be made.
    """
    path = directory / name
    descriptor = _taken(path, wait)
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


def _taken(path: Path, wait: Callable[[str], None] | None) -> int | None:
    """The open file, locked; None where the file system has no locks."""
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
            if not _locks(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB):
                holder = _holder(descriptor)
                if wait is None:
                    raise UserError(
                        f"{path.parent}: expected a directory that no other run writes, got one that is held by "
                        f"{holder}. Wait for it, stop it, or choose another name."
                    )
                wait(f"{path}: held by {holder}; waiting for it.")
                _locks(descriptor, fcntl.LOCK_EX)
            if _is_still(path, descriptor):
                return descriptor
        except OSError:  # a file system without locks
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _locks(descriptor: int, operation: int) -> bool:
    """Whether the lock is taken now; False where another process holds it."""
    import fcntl

    try:
        fcntl.flock(descriptor, operation)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


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
