"""theta alone in a file: what a user of a meta-trained aggregator downloads, a few KB."""

import fnmatch
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from learned_aggregation.atomic import write_atomic
from learned_aggregation.errors import UserError
from learned_aggregation.pretrained.card import CARD_FILE, STAGED, THETA_FILE, check_theta_hash, theta_of
from learned_aggregation.pretrained.checksum import CHECKSUM, check_checksum, checksum, read_safetensors
from learned_aggregation.pretrained.latest import LATEST, latest_step, latest_text
from learned_aggregation.pretrained.names import pretrained_directory, pretrained_names
from learned_aggregation.registry import nearest
from learned_aggregation.types import Theta

FORMAT = "learned_aggregation.theta.2"
"""Files of this format have a checksum; those of the one before, and those of others, have none."""
_WITHOUT_CHECKSUM = "learned_aggregation.theta.1"
_ADDED = ("format", CHECKSUM)
_PICKLES = (".pickle", ".pkl")
_OURS = re.compile(r"nn/[wb]\d+|(momentum|rms|adafactor)_decays")
_HAIKU_LINEAR = re.compile(r"(?:nn/)?mlp/linear_(\d+)/([wb])")


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves of a pytree by path, `nn/w0`, in tree order.

    Where keys with slashes in them give two leaves one path, these are named in full: `['nn']['w0']`, `['nn/w0']`.
    """
    pairs = jax.tree_util.tree_flatten_with_path(tree)[0]
    short = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in pairs]
    counts = Counter(short)
    full = (jax.tree_util.keystr(path) for path, _ in pairs)
    names = [name if counts[name] == 1 else long for name, long in zip(short, full, strict=True)]
    return dict(zip(names, (leaf for _, leaf in pairs), strict=True))


def theta_bytes(theta: Theta, metadata: Mapping[str, Any]) -> bytes:
    """theta as a safetensors file: float32 leaves named by path, metadata as strings; equal for equal input."""
    import safetensors.numpy

    leaves = {name: _contiguous(leaf) for name, leaf in named_leaves(theta).items()}
    text = {name: str(value) for name, value in metadata.items()} | {"format": FORMAT}
    return ordered(safetensors.numpy.save(leaves, metadata=text | {CHECKSUM: checksum(leaves, text)}))


def ordered(content: bytes) -> bytes:
    """The file with a sorted header: the library writes the metadata in an order of chance."""
    size = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + size]), sort_keys=True, separators=(",", ":"))
    aligned = header.encode() + b" " * (-len(header) % 8)
    return len(aligned).to_bytes(8, "little") + aligned + content[8 + size :]


def _contiguous(leaf: Any) -> np.ndarray:
    # safetensors writes the memory as it lies, whatever the strides.
    return np.asarray(leaf, np.float32, order="C")


def save_theta(path: str | os.PathLike, theta: Theta, metadata: Mapping[str, Any]) -> None:
    """Writes theta to a `.safetensors` file, atomically.

    Args:
      theta: nested dicts of float arrays; leaves are named by path: `nn/w0`, `momentum_decays`.
      metadata: what theta was meta-trained for (optimizer, num_grads, hidden_size, ...).
    Raises:
      RunError: the disk is full or not writable.
    """
    write_atomic(path, theta_bytes(theta, metadata))


def load_theta(path: str | os.PathLike) -> tuple[Theta, dict[str, str]]:
    """Reads theta from a file; no code in the file is ever run.

    Args:
      path: a `.safetensors` of ours, a `.pickle` of the published reference (read by an unpickler
        that admits dicts and arrays only), a checkpoint directory or a pretrained aggregator's name (see
        `resolve_theta_path`). Beside a card the file must have the card's hash.
    Returns:
      (theta, metadata): nested dicts of float32 arrays, and the strings saved with them ({} for a
      pickle).
    Raises:
      UserError: no such file, truncated or corrupt, not a theta, or not finite.
    """
    path = resolve_theta_path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: expected a readable theta file, got {error.strerror!r}. Check its permissions."
        ) from error
    if (path.name == THETA_FILE or fnmatch.fnmatch(path.name, STAGED)) and os.path.isfile(
        path.parent / CARD_FILE
    ):
        check_theta_hash(path, content)
    if path.suffix in _PICKLES:
        leaves, metadata = _read_pickle(path, content), {}
    else:
        leaves, metadata = _read_safetensors(path, content)
    return _nested(path, {name: _finite_float32(path, name, leaf) for name, leaf in leaves.items()}), metadata


def _finite_float32(path: Path, name: str, leaf: np.ndarray) -> jax.Array:
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        raise UserError(
            f"{path}: expected finite floats in {name}, got {leaf.dtype}. Use another checkpoint."
        )
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite: looked at afterwards
        found = np.asarray(leaf, np.float32)
    if not np.isfinite(found).all():
        raise UserError(
            f"{path}: expected finite floats in {name}, got NaN, infinity or numbers beyond float32. "
            "Use another checkpoint."
        )
    return jnp.asarray(found)


def resolve_theta_path(path: str | os.PathLike) -> Path:
    """The theta file that `path` stands for.

    Args:
      path: a `.safetensors` or `.pickle` file, a `global_step{N}` directory (its theta lies beside
        it), the directory of a meta-training run (its `latest` is followed), the directory of a
        pretrained aggregator, or the name of one.
    Raises:
      UserError: nothing there, or a directory without a theta.
    """
    asked, directory = path, pretrained_directory(path)
    path = Path(os.path.abspath(os.path.expanduser(asked) if directory is None else directory))
    if os.path.isfile(path / CARD_FILE):
        found = theta_of(path)
    elif path.suffix == ".safetensors" or path.suffix in _PICKLES:
        found = path
    elif os.path.isfile(path / "latest"):
        found = _named_by_latest(path)
    else:
        found = Path(f"{path}.safetensors")
    if os.path.isfile(found):  # of any text: too long, not to be read
        return found
    got = "no such file" if found == path else f"no {found}"
    if Path(asked).name == str(asked) and found != path and not os.path.exists(path):
        known = pretrained_names()
        raise UserError(
            f"{asked}: expected a pretrained aggregator ({', '.join(known) or 'none is here'}) or the path of a "
            f"theta, got neither.{nearest(str(asked), known) or ' Check the name.'}"
        )
    raise UserError(
        f"{path}: expected a theta (.safetensors, .pickle, or a checkpoint directory), got {got}. "
        "Check the path, or meta-train one with --run_type meta-train."
    )


def _named_by_latest(directory: Path) -> Path:
    step = latest_step(directory)
    if step is None:
        raise UserError(
            f"{directory / LATEST}: expected the name of a checkpoint, such as global_step1000, got "
            f"{(latest_text(directory) or '')[:80]!r}. Name the theta file itself, or write one that is there into it."
        )
    return directory / f"global_step{step}.safetensors"


def check_theta(
    theta: Theta,
    expected: Theta,
    where: str,
    settings: Mapping[str, Any],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Refuses a theta that the configured aggregator cannot use.

    Args:
      theta: as loaded.
      expected: theta of the aggregator, arrays or shapes: `jax.eval_shape(aggregator.init_theta, key)`.
      where: the optimizer's name; it starts the message.
      settings: of the config: optimizer, num_grads, hidden_size, ...
      metadata: as loaded with theta; what it was meta-trained for.
    Raises:
      UserError: another optimizer, or other leaves or shapes, with the setting that differs.
    """
    saved = metadata or {}
    change = first_difference(shapes(theta), shapes(expected))
    unseen = ("base", "parametrization")  # no leaf's shape tells these
    always = {name: settings[name] for name in unseen if name in settings} | {"optimizer": where}
    asked = always if change is None else {**settings, **always}
    for name, remedy in _REMEDIES.items():
        if name in saved and name in asked and saved[name] != str(asked[name]):
            raise UserError(
                f"{where}: theta was meta-trained for {name}={saved[name]}, "
                f"the config asks for {asked[name]}. {remedy.format(asked[name], saved[name])}"
            )
    if change is None:
        return
    name, got, want = change
    hint = _hint(name, got, want, settings)
    raise UserError(f"{where}: expected theta leaf {name} {want}, got {got}. {hint}")


_REMEDIES = {
    "optimizer": "Meta-train {0}, or use optimizer={1}.",
    "num_grads": "Use fedlagg-set, which takes any K, or meta-train with {0}.",
    "hidden_size": "Use hidden_size={1}, or meta-train with {0}.",
    "base": "Use base={1}, or meta-train with {0}.",
    "parametrization": "Use parametrization={1}, or meta-train with {0}.",
}


def _hint(name: str, got: Any, want: Any, settings: Mapping[str, Any]) -> str:
    """What to do about a theta without metadata; its input rows may tell its num_grads."""
    general = "Use a theta meta-trained for this optimizer, num_grads and hidden_size."
    num_grads = settings.get("num_grads")
    one_row_a_client = name == "nn/w0" and len(got) == 2 and got[1:] == want[1:]
    if num_grads is None or not one_row_a_client or (implied := num_grads + got[0] - want[0]) < 1:
        return general
    return (
        f"If it is of this optimizer it was meta-trained for num_grads={implied}, the config asks for "
        f"{num_grads}: use fedlagg-set, which takes any K, or meta-train with {num_grads}."
    )


def shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """The shape of each leaf by path."""
    return {name: tuple(np.shape(leaf)) for name, leaf in named_leaves(tree).items()}


def first_difference(got: Mapping[str, Any], want: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """(name, got, want) of the first entry that differs, "missing" standing for no entry."""
    for name in [*want, *(name for name in got if name not in want)]:
        pair = got.get(name, "missing"), want.get(name, "missing")
        if pair[0] != pair[1]:
            return name, *pair
    return None


def _read_safetensors(path: Path, content: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    try:
        leaves, metadata = read_safetensors(content)
        check_checksum(leaves, metadata, required=metadata.get("format") == FORMAT)
        form = metadata.get("format", "")
        if form.startswith("learned_aggregation.") and form not in (FORMAT, _WITHOUT_CHECKSUM):
            raise ValueError(f"format {form}, this version reads {FORMAT}")
    except Exception as error:  # the library raises its own type, KeyError and others
        raise _corrupt(path, error) from error
    if metadata.get("format") not in (FORMAT, _WITHOUT_CHECKSUM) and "nn/w0" not in leaves:
        found = ", ".join(sorted(leaves)[:3]) or "nothing"
        raise UserError(
            f"{path}: expected the leaves of a theta (nn/w0, nn/b0, ...), got {found}. "
            "Use a file that meta-training wrote (global_step*.safetensors)."
        )
    return leaves, {name: value for name, value in metadata.items() if name not in _ADDED}


def _read_pickle(path: Path, content: bytes) -> dict[str, np.ndarray]:
    from learned_aggregation.pretrained.reference_pickle import read_arrays

    try:
        leaves = dict(_translated(path, read_arrays(content, str(path))))
    except UserError:
        raise
    except Exception as error:  # a truncated pickle raises almost anything
        raise _corrupt(path, error) from error
    return leaves


def _translated(path: Path, tree: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Haiku's names to ours: nn/~/w0 -> nn/w0, mlp/~/linear_0/w -> nn/w0."""
    for name, leaf in _haiku_leaves(tree):
        ours = _HAIKU_LINEAR.sub(r"nn/\2\1", name)
        if not _OURS.fullmatch(ours) or not isinstance(leaf, np.ndarray):
            raise UserError(
                f"{path}: expected the theta of a reference aggregator, got a leaf {name!r}. "
                "Use the global_step*.pickle of its meta-training."
            )
        yield ours, leaf


def _haiku_leaves(tree: Any, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    if not isinstance(tree, dict):
        yield "/".join(prefix), tree
        return
    for name, value in tree.items():
        parts = tuple(part for part in str(name).split("/") if part != "~")
        yield from _haiku_leaves(value, prefix + parts)


def _nested(path: Path, leaves: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, leaf in leaves.items():
        *parents, last = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                break
        if not isinstance(node, dict) or last in node:
            raise UserError(
                f"{path}: expected a tree of leaves, got a leaf within a leaf at {name}. Use another file."
            )
        node[last] = leaf
    return tree


def _corrupt(path: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return UserError(
        f"{path}: expected a complete theta file, got a truncated or corrupt one ({reason}). "
        "Copy it again, or use another checkpoint."
    )
