"""A run's directory: the resolved config, what ran it, and the run's own files."""

import json
import os
import platform
import time
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from learned_aggregation.atomic import write_atomic
from learned_aggregation.errors import UserError
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
        probe = path / f".writable{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"{path}: expected a directory that can be written, got {error.strerror!r}. "
            "Choose another with --run_dir (or checkpoints_dir), or change its permissions."
        ) from None
    return path


def unused(path: Path, explicit: bool) -> Path:
    """A run directory without a run in it: `path`, or `path-2`, `path-3`, ... unless asked for explicitly.

    Raises:
      UserError: an explicitly named directory holds a run.
    """
    candidate, number = path, 1
    while (candidate / "config.py").exists():
        if explicit:
            raise UserError(
                f"{path}: expected an unused run directory, got one with a run in it. Choose another --run_dir."
            )
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate


def same_run(path: Path, config_text: str, explicit: bool) -> Path:
    """The directory of an earlier run of the same config, to go on with; else an unused one, as `unused`."""
    candidates = [path, *sorted(path.parent.glob(f"{path.name}-*"))]
    for candidate in candidates if not explicit else [path]:
        if (candidate / "config.py").is_file() and (candidate / "config.py").read_text() == config_text:
            return candidate
    return unused(path, explicit)


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
