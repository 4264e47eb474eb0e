"""The files of one checkpoint: written and synced, verified, and compared with the state that is to be restored."""

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from learned_aggregation.atomic import sync_directory
from learned_aggregation.errors import UserError
from learned_aggregation.json_text import parse_json
from learned_aggregation.pretrained.theta_file import first_difference, named_leaves
from learned_aggregation.runs.arrays import is_key, write_arrays
from learned_aggregation.types import MetaState

FORMAT = 1
_SUMS = "SHA256SUMS"
_OVERHEAD = 1 << 20  # bytes of a checkpoint beside its arrays, with a margin


class Corrupt(ValueError):
    """The files of a checkpoint are not those that were saved."""


def check_room(path: Path, state: MetaState) -> None:
    """Raises the OSError of a disk without room for the state; orbax would print many of its own.

    Args:
      path: of a file that is made and removed.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    size = _OVERHEAD + sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    with open(path, "wb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise  # others: the file system cannot reserve
        finally:
            path.unlink()


def write_checkpoint(
    staged: Path, step: int, state: MetaState, config_text: str, settings: Mapping[str, Any]
) -> None:
    """Makes the directory `staged` with all of a checkpoint's files, synced.

    Args:
      state, config_text, settings: as `Checkpointer.save` takes them.
    Raises:
      OSError and whatever orbax raises: the disk refused.
    """
    staged.mkdir()
    leaves = named_leaves(state)
    write_arrays(staged / "arrays", leaves)
    meta = {
        "format": FORMAT,
        "step": step,
        "jax": jax.__version__,
        "settings": dict(settings),
        "leaves": {name: _description(leaf) for name, leaf in leaves.items()},
        "key_impls": {name: str(jax.random.key_impl(leaf)) for name, leaf in leaves.items() if is_key(leaf)},
    }
    (staged / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")
    (staged / "config.py").write_text(config_text, encoding="utf-8")
    sums = "".join(f"{_digest(path)}  {name}\n" for name, path in _files(staged))
    (staged / _SUMS).write_text(sums, encoding="utf-8")
    _sync_tree(staged)


def _files(path: Path) -> list[tuple[str, Path]]:
    """(relative name, path) of every file but the sums and hidden ones (a file manager's)."""
    files = [(str(file.relative_to(path)), file) for file in sorted(path.rglob("*")) if file.is_file()]
    return [(name, file) for name, file in files if name != _SUMS and not file.name.startswith(".")]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _sync_tree(path: Path) -> None:
    for parent, _, names in os.walk(path):
        for name in names:
            with open(Path(parent) / name, "rb+") as file:
                os.fsync(file.fileno())
        sync_directory(parent)
    sync_directory(path.parent)


def verified_meta(path: Path) -> dict[str, Any]:
    """meta.json of a checkpoint all of whose files are as saved.

    Raises:
      Corrupt: a file is missing, unreadable, changed or of a newer format.
    """
    try:
        lines = (path / _SUMS).read_text(encoding="utf-8").splitlines()
        saved = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
        found = {name: _digest(file) for name, file in _files(path)}
        change = first_difference(found, saved)
        if change is None:
            meta = parse_json((path / "meta.json").read_text(encoding="utf-8"), finite=False)
            if meta["format"] == FORMAT:
                return meta
            raise Corrupt(f"format {meta['format']}, this version reads {FORMAT}")
    except Corrupt:
        raise
    except (OSError, ValueError, KeyError) as error:
        raise Corrupt(f"{type(error).__name__}: {error}") from error
    raise Corrupt(f"{change[0]} is {'missing' if change[1] == 'missing' else 'not as saved'}")


def check_fits(path: Path, meta: dict, template: MetaState, settings: Mapping[str, Any]) -> None:
    """Refuses to restore a checkpoint as the template's state if a leaf is missing, extra, or of another kind.

    Args:
      path: of the checkpoint; it starts the message.
      meta: its meta.json.
      settings: those of now; the ones that differ from the checkpoint's explain a mismatch.
    Raises:
      UserError: naming the first leaf that differs, and the settings.
    """
    want = {name: _description(leaf) for name, leaf in named_leaves(template).items()}
    change = first_difference(meta["leaves"], want)
    if change is None:
        return
    name, got, expected = change
    leaf = f"leaf {name} is {_text(got)} in the checkpoint, {_text(expected)} by the config"
    current = json.loads(json.dumps(dict(settings)))
    saved = meta["settings"]
    differing = [key for key in current if key in saved and saved[key] != current[key]]
    if not differing:
        raise UserError(
            f"{path}: expected the state of this config, got another ({leaf}). "
            "Resume with the config.py in it, or start a new run with another --name_suffix."
        )
    was = ", ".join(f"{key}={saved[key]}" for key in differing)
    now = ", ".join(str(current[key]) for key in differing)
    raise UserError(
        f"checkpoint {path}: theta was meta-trained with {was}, the config asks for {now} ({leaf}). "
        "Resume with the checkpoint's setting, or start a new run with another --name_suffix."
    )


def _description(leaf: Any) -> dict[str, Any]:
    return {"shape": list(np.shape(leaf)), "dtype": str(jax.dtypes.result_type(leaf))}


def _text(description: Any) -> str:
    return description if isinstance(description, str) else f"{description['dtype']}{description['shape']}"
