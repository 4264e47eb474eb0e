"""A run's directory: the resolved config, what ran it, and the run's own files."""

import contextlib
import glob
import itertools
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from learned_aggregation.atomic import write_atomic
from learned_aggregation.errors import UserError
from learned_aggregation.runs.lock import lock
from learned_aggregation.types import Metric

_PACKAGES = ("learned-aggregation", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def make_writable(path: str | os.PathLike) -> Path:
    """Makes the directory and checks that files can be written there.

    Raises:
      UserError: it cannot be made or written.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise UserError(
            f"{path}: expected a directory that can be written, got {error.strerror!r}. "
            "Choose another with --run_dir (or checkpoints_dir), or change its permissions."
        ) from None
    return path


@contextlib.contextmanager
def unused(path: Path, explicit: bool) -> Iterator[Path]:
    """A run directory without a run in it, made and held: `path`, or `path-2`, `path-3`, ... unless it was asked for.

    Runs that are started together get a directory each: one that another process holds is not unused.

    Raises:
      UserError: an explicitly named directory holds a run, or another process holds it; it cannot be made.
    """
    with contextlib.ExitStack() as held:
        yield _unused(path, explicit, held)


@contextlib.contextmanager
def same_run(path: Path, config_text: str, explicit: bool) -> Iterator[Path]:
    """The directory of an earlier run of the same config, to go on with, else an unused one; held as `unused` does.

    Raises:
      UserError: another process is at that run; see also `unused`.
    """
    candidates = [path, *sorted(path.parent.glob(f"{glob.escape(path.name)}-*"))]
    with contextlib.ExitStack() as held:
        for candidate in candidates if not explicit else [path]:
            if _has_config(candidate, config_text):
                held.enter_context(lock(candidate))
                yield candidate
                return
        yield _unused(path, explicit, held)


def _unused(path: Path, explicit: bool, held: contextlib.ExitStack) -> Path:
    for number in itertools.count(1):
        candidate = path if number == 1 else path.with_name(f"{path.name}-{number}")
        if not (candidate / "config.py").exists():
            make_writable(candidate)
            try:
                # Locked, then looked at: whoever was here meanwhile has written its config.
                held.enter_context(lock(candidate))
                if not (candidate / "config.py").exists():
                    return candidate
            except UserError:
                if explicit:
                    raise
        if explicit:
            break
        held.close()
    raise UserError(
        f"{path}: expected an unused run directory, got one with a run in it. Choose another --run_dir."
    )


def _has_config(directory: Path, config_text: str) -> bool:
    """Whether a run of that config is there; a file of another encoding is of another run."""
    try:
        return (directory / "config.py").read_bytes() == config_text.encode()
    except OSError:
        return False


class RunDirectory:
    """Holds config.py (resolved), run.json (what ran, when, with which versions) and the run's files.

    Args:
      path: made if missing; see make_writable.
      config_text: the resolved config as a Python file.
      facts: of run.json: run_type, name, command, metrics (see `metric_facts`), notes, ...
    """

    def __init__(self, path: str | os.PathLike, config_text: str, facts: dict[str, Any]):
        self.path = make_writable(path)
        self._facts = {
            **facts,
            "started": _now(),
            "versions": {"python": platform.python_version()} | _versions(),
            "machine": {"system": platform.platform(), "cores": os.cpu_count()},
        }
        write_atomic(self.path / "config.py", config_text)
        self._write_facts()

    def finish(self, **facts: Any) -> None:
        """Adds the time of the end and the last facts to run.json."""
        self._facts |= {"finished": _now(), **facts}
        self._write_facts()

    def _write_facts(self) -> None:
        write_atomic(self.path / "run.json", json.dumps(self._facts, indent=2) + "\n")


def metric_facts(metrics: Mapping[str, Iterable[Metric]]) -> dict[str, list[dict[str, Any]]]:
    """What each task measures, as run.json has it for a report: name, direction and unit of every metric.

    Example:
      >>> metric_facts({"a": [Metric("loss", unit="nats")]})
      {'a': [{'name': 'loss', 'higher_is_better': False, 'unit': 'nats'}]}
    """
    return {task: [metric._asdict() for metric in found] for task, found in metrics.items()}


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
