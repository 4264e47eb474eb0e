"""Trained autoencoders on disk, for the next run to load: DIRECTORY/NAME/{signature.json, weights.safetensors, ...}.

A name stands for all that an autoencoder depends on. Writers hold a lock of that name: of two runs that want the same
one the second waits and loads. An entry is staged, synced and renamed: a kill leaves the old one or the new one.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from learned_aggregation.atomic import disk_error, sync_directory, write_atomic
from learned_aggregation.errors import UserError
from learned_aggregation.pretrained.theta_file import first_difference
from learned_aggregation.runs.lock import lock
from learned_aggregation.split.array_file import Refused, as_tree, read_arrays, short_hash, write_arrays

SIGNATURE, WEIGHTS, RESULTS = "signature.json", "weights.safetensors", "results.json"


class Signature(NamedTuple):
    """What an autoencoder is; one that differs in any of them is refused."""

    type: str
    dataset: str
    dataset_proportion: float
    model: str
    split_layer: int
    input_dim: int
    latent_dim: int


class Found(NamedTuple):
    """An autoencoder: its directory, its parameters, results.json, and whether it was trained now."""

    path: Path
    autoencoder: Any
    results: dict[str, Any]
    trained: bool


def unique_name(signature: Signature, details: Mapping[str, Any]) -> str:
    """`TYPE_zZ_DATASET_HASH`, the hash of the signature and of all else that the training depends on."""
    about = {**signature._asdict(), "details": dict(details)}
    return f"{signature.type}_z{signature.latent_dim}_{signature.dataset}_{short_hash(about)}"


def find_or_train(
    directory: Path,
    signature: Signature,
    details: Mapping[str, Any],
    template: Any,
    train: Callable[[], tuple[Any, dict[str, Any]]],
    *,
    retrain: bool = False,
    say: Callable[[str], None] = print,
) -> Found:
    """The stored autoencoder of this signature and these details; trained and stored where there is none.

    Args:
      details: what it depends on besides, JSON values.
      template: its parameters, arrays or shapes.
      train: () -> (parameters, results).
      retrain: train it also where it is there; the old one stays until the new one is whole.
    Raises:
      RunError: the disk refused.
    """
    path = directory / unique_name(signature, details)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(path, error, "run again") from error
    with lock(directory, f".{path.name}.lock", wait=say):
        if (old := _old(path)).exists() and not path.exists():  # killed between two renames
            os.replace(old, path)
        if path.exists() and not retrain:
            try:
                found = _read(path, signature, template)
            except Refused as error:
                say(f"{path}: expected a whole autoencoder, got one that is {error}; not used, trained anew.")
            else:
                say(f"autoencoder: loaded {path}")
                return found
        autoencoder, results = train()
        _publish(path, signature, details, autoencoder, results)
    say(f"autoencoder: trained {path}")
    return Found(path, autoencoder, results, True)


def load(path: str, signature: Signature, template: Any) -> Found:
    """The autoencoder in a directory that the user names.

    Raises:
      UserError: none there, a damaged one, or one whose signature differs, which is named.
    """
    where = Path(path)
    try:
        return _read(where, signature, template)
    except Refused as error:
        raise UserError(
            f"ae_path: expected the autoencoder of this run, got {path!r}, {error}. Name another, or leave ae_path out."
        ) from None


def _read(path: Path, signature: Signature, template: Any) -> Found:
    try:
        saved = json.loads((path / SIGNATURE).read_text(encoding="utf-8"))
        results = json.loads((path / RESULTS).read_text(encoding="utf-8"))
        if not isinstance(results, dict):
            raise Refused(f"damaged ({RESULTS} is no object)")
        wanted = json.loads(json.dumps(signature._asdict()))
        if change := first_difference({name: saved.get(name, "missing") for name in wanted}, wanted):
            raise Refused(f"of another {change[0]}: {change[1]!r} instead of {change[2]!r}")
        leaves = read_arrays(path / WEIGHTS, saved)
        return Found(path, as_tree(leaves, template), results, False)
    except FileNotFoundError as error:
        raise Refused(f"incomplete (no {Path(error.filename or path).name})") from None
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        if isinstance(error, Refused):
            raise
        raise Refused(f"damaged ({type(error).__name__})") from None


def _publish(
    path: Path, signature: Signature, details: Mapping[str, Any], autoencoder: Any, results: Mapping[str, Any]
) -> None:
    about = json.loads(json.dumps({**signature._asdict(), "details": dict(details)}))
    staged, old = path.with_name(f".{path.name}.staged"), _old(path)
    shutil.rmtree(staged, ignore_errors=True)
    write_atomic(staged / SIGNATURE, json.dumps(about, indent=1) + "\n")
    write_arrays(staged / WEIGHTS, autoencoder, about)
    write_atomic(staged / RESULTS, json.dumps(results, indent=1) + "\n")
    try:
        shutil.rmtree(old, ignore_errors=True)
        if path.exists():
            os.replace(path, old)
        os.replace(staged, path)
    except OSError as error:
        raise disk_error(path, error, "run again") from error
    sync_directory(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def _old(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")
