"""Weights & Biases, offline by default: files for a later `wandb sync`, no network."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from learned_aggregation.errors import UserError

MODES = ("offline", "online")


def make(
    run_dir: str | Path,
    *,
    config: Mapping[str, Any],
    wandb_mode: str = "offline",
    wandb_dir: str | Path | None = None,
    project: str = "learned_aggregation",
    name: str | None = None,
    resume_step: int | None = None,
) -> "WandbTracker":
    """A run under `wandb_dir` (by default the run's directory)."""
    del resume_step  # a resumed run is a new wandb run of the same name
    return WandbTracker(
        wandb_dir or run_dir, mode=wandb_mode, project=project, name=name or Path(run_dir).name, config=config
    )


class WandbTracker:
    """One wandb run.

    Args:
      directory: its files go to `<directory>/wandb/`; made if missing.
      mode: "offline" writes files and opens no connection; "online" sends them to the server that
        wandb is logged in to.
      project, name, config: as wandb shows them.
    Raises:
      UserError: another mode, or wandb is not installed.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        mode: str = "offline",
        project: str = "learned_aggregation",
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
    ):
        if mode not in MODES:
            raise UserError(f"wandb_mode: expected one of {', '.join(MODES)}, got {mode!r}. Use offline.")
        directory = Path(directory).absolute()
        # wandb falls back to the system's temporary directory if this one is missing.
        (directory / "wandb").mkdir(parents=True, exist_ok=True)
        # Its background process is told only by the environment; without this it writes its log under
        # the home directory and reports its own errors over the network, offline or not.
        quiet = {"WANDB_CACHE_DIR": str(directory / "wandb" / "cache"), "WANDB_ERROR_REPORTING": "false"}
        with _environment(quiet):
            wandb = _import_wandb()
            self._run = wandb.init(
                dir=str(directory),
                mode=mode,
                project=project,
                name=name,
                config=dict(config or {}),
                reinit="create_new",
                settings=wandb.Settings(
                    console="off", silent=True, disable_git=True, disable_code=True, x_disable_stats=True
                ),
            )

    def log(self, step: int, row: Mapping[str, float]) -> None:
        """Logs the row at `step`."""
        self._run.log(dict(row), step=step)

    def close(self) -> None:
        """Finishes the run."""
        self._run.finish()


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets the variables that the user has not set, for the duration of a call."""
    added = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _import_wandb() -> Any:
    try:
        import wandb
    except ImportError as error:
        raise UserError(
            "tracker: expected wandb to be installed, got an ImportError. "
            "Run `pip install wandb`, or use csv."
        ) from error
    return wandb
