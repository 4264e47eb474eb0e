"""`latest` in a run's checkpoints: which one to go on from. One reader for everybody. No JAX here."""

import contextlib
import re
from pathlib import Path

LATEST = "latest"
_NAME = re.compile(r"global_step(0|[1-9]\d{0,17})", re.ASCII)


def step_of(name: str) -> int | None:
    """The step of a checkpoint's name, `global_step{N}`; None for any other text.

    Example:
      >>> [step_of(name) for name in ("global_step20", "global_step020", "../global_step20")]
      [20, None, None]
    """
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def latest_text(directory: Path) -> str | None:
    """What `latest` says, without space around it; None where it cannot be read."""
    with contextlib.suppress(OSError), (directory / LATEST).open(encoding="utf-8", errors="replace") as file:
        return file.read(1000).strip()
    return None


def latest_step(directory: Path) -> int | None:
    """The step that `latest` names; None where there is no `latest`, or one that names no checkpoint."""
    text = latest_text(directory)
    return None if text is None else step_of(text)
