"""Files that are either the old one or the new one, whatever happens in between."""

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from learned_aggregation.errors import RunError

_FULL = {errno.ENOSPC, errno.EDQUOT}
_REMEDIES = {
    **dict.fromkeys(_FULL, "Free space"),
    errno.EACCES: "Make it writable or choose another directory",
    errno.EPERM: "Make it writable or choose another directory",
    errno.EROFS: "Choose a directory on a writable disk",
}
# How libraries below Python (tensorstore) word what would be an errno here.
_WORDINGS = {
    "no space left": errno.ENOSPC,
    "resource_exhausted": errno.ENOSPC,
    "disk quota": errno.EDQUOT,
    "permission denied": errno.EACCES,
    "read-only file system": errno.EROFS,
}


def from_home(path: str | Path) -> Path:
    """The path with `~` and `~somebody` as the home folder, and as it is where there is no such person.

    Example:
      >>> from_home("~nobody-here/a").name
      'a'
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def write_atomic(path: str | os.PathLike, content: bytes | str, *, then: str = "run again") -> None:
    """Replaces the file at `path` by `content`, or leaves it as it was.

    Writes a temporary file beside it, syncs it, renames it over `path` and syncs the directory;
    missing parent directories are made. Text is written as UTF-8.

    Args:
      then: what to do once the cause is removed; it ends the error message.
    Raises:
      RunError: the system refused (a full or read-only disk, no permission).
    """
    try:
        replace_file(path, content)
    except OSError as error:
        raise disk_error(path, error, then) from error


def replace_file(path: str | os.PathLike, content: bytes | str) -> None:
    """`write_atomic` that lets the OSError through."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # No O_EXCL: a process killed here may have had the same id (it always has in a container).
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_directory(path.parent)


def sync_directory(path: str | os.PathLike) -> None:
    """Makes the renames inside a directory durable, where the file system can."""
    # Some network file systems refuse to sync a directory; the rename itself is still atomic.
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def disk_error(path: str | os.PathLike, error: BaseException, then: str) -> RunError:
    """The one-line RunError for a write that failed: the path, the reason, what to do.

    Args:
      error: an OSError, or any exception whose chain of causes holds or words one.
      then: what to do once the cause is removed.
    """
    number = next((n for e in _causes(error) if (n := _errno(e)) is not None), None)
    reason = f"{type(error).__name__}: {error}".splitlines()[0] if number is None else os.strerror(number)
    remedy = "Remove the cause" if number is None else _REMEDIES.get(number, "Remove the cause")
    return RunError(f"{path}: expected to write it, got {reason!r}. {remedy}, then {then}.")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _errno(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    text = str(error).lower()
    if code := re.search(r"os_error_code='(\d+)'", text):  # as tensorstore ends its messages
        return int(code[1])
    return next((number for wording, number in _WORDINGS.items() if wording in text), None)
