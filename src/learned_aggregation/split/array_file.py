"""Arrays in a safetensors file that says what they are and whether they are whole; no code in it is ever run."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from learned_aggregation.atomic import write_atomic
from learned_aggregation.pretrained.theta_file import first_difference, named_leaves, ordered

FORMAT = "learned_aggregation.arrays.1"


class Refused(ValueError):
    """A file that is not what was asked for: damaged, or of something else."""


def write_arrays(path: Path, tree: Any, about: Mapping[str, Any]) -> None:
    """Writes the leaves by path, atomically, with `about` (JSON) and a hash of both.

    Raises:
      RunError: the disk refused.
    """
    import safetensors.numpy

    leaves = {name: np.asarray(leaf, order="C") for name, leaf in named_leaves(tree).items()}
    text = json.dumps(about, sort_keys=True)
    metadata = {"format": FORMAT, "about": text, "sha256": _hash(leaves, text)}
    write_atomic(path, ordered(safetensors.numpy.save(leaves, metadata=metadata)))


def read_arrays(path: Path, about: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
    """The leaves by path.

    Args:
      about: what the file must say of itself; None: anything.
    Raises:
      FileNotFoundError: there is no file.
      Refused: it is cut off, changed, or says something else of itself.
    """
    import safetensors.numpy

    content = path.read_bytes()
    try:
        leaves = safetensors.numpy.load(content)
        size = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + size])["__metadata__"]
        found = json.loads(metadata["about"])
        whole = metadata["format"] == FORMAT and metadata["sha256"] == _hash(leaves, metadata["about"])
    except Exception as error:  # the library raises its own type, KeyError and others
        raise Refused(f"damaged ({type(error).__name__})") from error
    if not whole:
        raise Refused("damaged (its hash differs)")
    if about is not None and (change := first_difference(found, json.loads(json.dumps(about)))):
        raise Refused(f"of another kind ({change[0]} is {change[1]!r} in the file, {change[2]!r} here)")
    return leaves


def as_tree(leaves: Mapping[str, np.ndarray], template: Any) -> Any:
    """The leaves in the structure of `template`.

    Raises:
      Refused: a leaf is missing, extra, or of another shape or type.
    """
    wanted = named_leaves(template)
    for what, of in (("shape", np.shape), ("type", lambda leaf: str(leaf.dtype))):
        found, needed = ({name: of(leaf) for name, leaf in tree.items()} for tree in (leaves, wanted))
        if change := first_difference(found, needed):
            raise Refused(f"of another {what} ({change[0]} is {change[1]}, not {change[2]})")
    return jax.tree.unflatten(jax.tree.structure(template), [leaves[name] for name in wanted])


def cached(
    path: Path, about: Mapping[str, Any], template: Any, build: Callable[[], Any], say: Callable[[str], None]
) -> Any:
    """The tree stored at `path`; built and stored where it is missing; refused, said and built anew where it is bad."""
    try:
        return as_tree(read_arrays(path, about), template)
    except FileNotFoundError:
        pass
    except (OSError, Refused) as error:
        say(f"{path}: expected a stored copy that fits, got one that is {error}; not used, made anew.")
    made = jax.device_get(build())
    write_arrays(path, made, about)
    return made


def tree_hash(tree: Any) -> str:
    """The first 16 digits of a hash of all leaves, their names and shapes."""
    leaves = {name: np.asarray(leaf) for name, leaf in named_leaves(jax.device_get(tree)).items()}
    return _hash(leaves, "")[:16]


def short_hash(about: Mapping[str, Any]) -> str:
    """12 digits that stand for a description."""
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]


def _hash(leaves: Mapping[str, np.ndarray], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(leaves):
        leaf = leaves[name]
        digest.update(f"{name} {leaf.dtype} {leaf.shape}".encode())
        digest.update(np.ascontiguousarray(leaf).data if leaf.size else b"")
    return digest.hexdigest()
