"""The whole state of a meta-training run on disk: saved atomically, restored bit for bit.

A run's directory, `checkpoints/<meta-train-name>/`, holds

    global_step{N}/              arrays/ (orbax), config.py, meta.json, SHA256SUMS
    global_step{N}.safetensors   theta alone
    latest                       the name of the newest complete checkpoint
    best.safetensors             theta of the best validation so far, where there are validations

A checkpoint is written under a hidden name, synced, renamed, and only then named by `latest`: a kill
at any moment leaves a directory to resume from. `SHA256SUMS` is verified before anything is parsed
(`sha256sum -c SHA256SUMS` does it by hand). Only arrays and JSON are read back; no pickle.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from learned_aggregation.atomic import disk_error, replace_file, sync_directory, write_atomic
from learned_aggregation.errors import RunError, UserError
from learned_aggregation.pretrained.latest import latest_step, latest_text, step_of
from learned_aggregation.pretrained.theta_file import named_leaves, theta_bytes
from learned_aggregation.runs.arrays import read_arrays
from learned_aggregation.runs.checkpoint_files import (
    Corrupt,
    check_fits,
    check_room,
    verified_meta,
    write_checkpoint,
)
from learned_aggregation.types import MetaState


class Checkpointer:
    """Saves and restores the MetaStates of one run. For one process writing at a time.

    Args:
      directory: of the run; made by the first save.
      keep: how many of the newest checkpoints a save leaves, at least 1; the one that `latest`
        names is always kept.
    Raises:
      UserError: keep below 1.
    """

    def __init__(self, directory: str | os.PathLike, *, keep: int):
        if keep < 1:
            raise UserError(
                f"checkpoints_to_keep: expected a whole number of at least 1, got {keep!r}. Set it to 1."
            )
        self.directory = Path(os.path.abspath(directory))
        self.keep = keep

    def steps(self) -> list[int]:
        """The steps of the checkpoints in the directory, ascending; also ones not named by `latest`."""
        if not self.directory.is_dir():
            return []
        steps = (step_of(entry.name) for entry in self.directory.iterdir() if entry.is_dir())
        return sorted(step for step in steps if step is not None)

    def latest_step(self) -> int | None:
        """The step that `latest` names, or None if there is no readable `latest`."""
        return latest_step(self.directory)

    def save(
        self, step: int, state: MetaState, config_text: str, settings: Mapping[str, Any] | None = None
    ) -> Path:
        """Saves `state` as `global_step{step}`, points `latest` to it and prunes older checkpoints.

        Args:
          state: any pytree of arrays with a `theta`; typed PRNG keys included.
          config_text: the resolved config, kept beside the arrays.
          settings: what theta depends on (optimizer, num_grads, hidden_size, num_local_steps, task);
            JSON values. `restore` compares them, the theta file carries them.
        Returns:
          The checkpoint's directory.
        Raises:
          RunError: theta is not finite, or the disk refused; earlier checkpoints are untouched.
        """
        self._check_finite(step, state.theta)
        staged = self.directory / f".global_step{step}.tmp"
        try:
            self._sweep()
            check_room(self.directory / f".global_step{step}.room.tmp", state)
            # Saving is where data may leave the device, whatever guards the hot loop.
            with jax.transfer_guard("allow"):
                write_checkpoint(staged, step, state, config_text, settings or {})
                theta = theta_bytes(state.theta, {**(settings or {}), "step": step})
            self._publish(staged, step, theta)
            self._prune()
        except Exception as error:
            shutil.rmtree(staged, ignore_errors=True)
            raise disk_error(self._path(step), error, self._then()) from error
        return self._path(step)

    def save_best(self, step: int, theta: Any, settings: Mapping[str, Any]) -> None:
        """Saves theta as `best.safetensors`, which no later save removes.

        Raises:
          RunError: theta is not finite, or the disk refused.
        """
        self._check_finite(step, theta)
        path = self.directory / "best.safetensors"
        with jax.transfer_guard("allow"):
            write_atomic(path, theta_bytes(theta, {**settings, "step": step}), then=self._then())

    def existing(self, step: int | None = None) -> Path:
        """The directory of a checkpoint; by default of the one that `latest` names.

        Without a file `latest`, as a kill within the first save leaves it, it is the newest.

        Raises:
          UserError: there is none.
        """
        has_latest, steps = (self.directory / "latest").exists(), self.steps()
        wanted = self.latest_step() if step is None else step
        if step is None and not has_latest and steps:
            wanted = steps[-1]
        if wanted is not None:
            for path in (self._path(wanted), self._replaced(wanted)):
                if path.is_dir():
                    return path
        if step is None and not has_latest:
            raise UserError(
                f"{self.directory}: expected a checkpoint to resume from, got none. "
                "Check --name and the settings that it is built from, or start without --from_checkpoint."
            )
        where = self.directory / ("latest" if step is None else f"global_step{step}")
        got = f"{self._latest_text()!r}" if step is None else "no such directory"
        raise UserError(f"{where}: expected an existing checkpoint, got {got}. {self._way_back(None)}")

    def restore(
        self, template: MetaState, step: int | None = None, settings: Mapping[str, Any] | None = None
    ) -> MetaState:
        """Reads a checkpoint back, bit for bit.

        Args:
          template: the state's tree, shapes and dtypes: arrays, or `jax.eval_shape` of its making.
            A leaf with a sharding (set on its ShapeDtypeStruct, or of a committed array) is restored to it.
          step: which checkpoint; by default the one that `latest` names.
          settings: as given to `save`; those that differ explain a mismatch.
        Raises:
          UserError: no such checkpoint, a corrupt one, or one that does not fit the template.
        """
        path = self.existing(step)
        try:
            meta = verified_meta(path)
        except Corrupt as error:
            raise self._corrupt_error(path, error) from error
        check_fits(path, meta, template, settings or {})
        try:
            return read_arrays(path / "arrays", template, meta["key_impls"])
        except Exception as error:  # orbax and tensorstore raise many types
            raise self._corrupt_error(path, error) from error

    def _path(self, step: int) -> Path:
        return self.directory / f"global_step{step}"

    def _replaced(self, step: int) -> Path:
        return self.directory / f".global_step{step}.old"

    def _check_finite(self, step: int, theta: Any) -> None:
        for name, leaf in named_leaves(theta).items():
            if jnp.issubdtype(leaf.dtype, jnp.floating) and not np.isfinite(jax.device_get(leaf)).all():
                raise RunError(
                    f"{self.directory}: expected a finite theta at step {step}, "
                    f"got NaN or infinity in {name}. Nothing was saved; lower schedule.peak_value, "
                    f"then {self._then()}."
                )

    def _then(self) -> str:
        step = self.latest_step()
        if step is None:
            return "start again; there is no earlier checkpoint"
        return f"resume with --from_checkpoint; the last good checkpoint is {self._path(step)}"

    def _publish(self, staged: Path, step: int, theta: bytes) -> None:
        path, replaced = self._path(step), self._replaced(step)
        if path.exists():  # saved before a kill, or the same step twice
            os.replace(path, replaced)
        os.replace(staged, path)
        sync_directory(self.directory)
        replace_file(f"{path}.safetensors", theta)
        replace_file(self.directory / "latest", path.name)
        if replaced.exists():
            shutil.rmtree(replaced)

    def _sweep(self) -> None:
        """Undoes what a killed save left: completes its swap backwards, removes its temporaries."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for entry in list(self.directory.iterdir()):
            if re.fullmatch(r"\.global_step\d+\.old", entry.name):
                path = self.directory / entry.name.removeprefix(".").removesuffix(".old")
                shutil.rmtree(entry) if path.exists() else os.replace(entry, path)
            elif re.fullmatch(r"\.(global_step|latest|best).*\.tmp", entry.name):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def _prune(self) -> None:
        latest = self.latest_step()
        others = [step for step in self.steps() if step != latest]
        for step in others[: max(len(others) - (self.keep - 1), 0)]:
            Path(f"{self._path(step)}.safetensors").unlink(missing_ok=True)
            # Renamed first: a kill in the middle of the removal must not leave half a checkpoint.
            pruned = self.directory / f".global_step{step}.pruned.tmp"
            os.replace(self._path(step), pruned)
            shutil.rmtree(pruned)

    def _latest_text(self) -> str:
        text = latest_text(self.directory)
        return "no file" if text is None else text[:80]

    def _corrupt_error(self, path: Path, error: Exception) -> UserError:
        reason = " ".join(f"{type(error).__name__}: {error}".split()).removeprefix("Corrupt: ")[:200]
        return UserError(
            f"{path}: expected a complete checkpoint, got a corrupt one ({reason}). {self._way_back(path)}"
        )

    def _way_back(self, bad: Path | None) -> str:
        """What to do about an unusable checkpoint: the newest intact one below, else above it."""
        limit = step_of(bad.name.removeprefix(".").removesuffix(".old")) if bad else None
        candidates = [step for step in reversed(self.steps()) if step != limit]
        if limit is not None:
            candidates.sort(key=lambda step: step > limit)
        for step in candidates:
            with contextlib.suppress(Corrupt):
                verified_meta(self._path(step))
                return (
                    f"{self._path(step)} is intact: write global_step{step} into "
                    f"{self.directory / 'latest'} to resume from it."
                )
        return "No other checkpoint is intact: restore one from a copy, or start a new run with another --name_suffix."
