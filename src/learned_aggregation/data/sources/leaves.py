"""Columns of a source -> leaves of examples: what a model reads and what it is to predict."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from learned_aggregation.data.sources import Entry
from learned_aggregation.data.sources.forms import formed
from learned_aggregation.data.text import windows
from learned_aggregation.errors import UserError

CALLED = {
    "image": ("image", "images", "img"),
    "video": ("video", "videos"),
    "label": ("label", "labels"),
    "features": ("features",),
    "target": ("target", "targets"),
    "tokens": ("tokens", "input_ids", "text"),
    "client": ("client", "clients", "client_id"),
}
"""Leaf -> what its column is called where `columns` does not say it."""

Leaves = dict[str, Any]


def leaves_of(where: str, columns: Mapping[str, Any], entry: Entry) -> Leaves:
    """The leaves that a part's columns are, "client" among them.

    Raises:
      UserError: a column that is not there, columns of different lengths, nothing that a model could read.
    """
    asked = dict(entry.columns) | ({"client": entry.clients} if entry.clients else {})
    leaves = {leaf: _column(where, columns, named) for leaf, named in asked.items()}
    for leaf, names in CALLED.items():
        found = [name for name in names if name in columns]
        if leaf not in leaves and found:
            leaves[leaf] = columns[found[0]]
    if not leaves.keys() & {"image", "video", "features", "tokens"}:
        raise UserError(
            f"{where}: expected a column image, video, features or tokens, got {', '.join(columns) or 'none'}. "
            "Say which is which, as in columns=dict(image='pixels', label='digit')."
        )
    leaves = {leaf: formed(where, leaf, values) for leaf, values in leaves.items()}
    lengths = {leaf: len(values) for leaf, values in leaves.items()}
    if len(set(lengths.values())) > 1:
        raise UserError(
            f"{where}: expected columns of one length, got {lengths}. Give one row for each example."
        )
    return leaves


def _column(where: str, columns: Mapping[str, Any], named: str | Sequence[str]) -> Any:
    names = [named] if isinstance(named, str) else list(named)
    for name in names:
        if name not in columns:
            raise UserError(
                f"{where}: expected columns among {', '.join(columns)}, got {name!r}. Check the name."
            )
    if isinstance(named, str):
        return columns[named]
    parts = [formed(f"{where}, column {name}", "features", columns[name]) for name in names]
    if len({part.shape for part in parts}) > 1:
        shapes = {name: list(part.shape) for name, part in zip(names, parts, strict=True)}
        raise UserError(f"{where}: expected columns of one number each, got {shapes}. Leave the others out.")
    return np.stack([part[:, 0] if part.shape[1] == 1 else part for part in parts], axis=1)


def kind_of_leaves(leaves: Leaves) -> str:
    """The kind of data, of `data.KINDS`.

    Example:
      >>> kind_of_leaves({"features": 0, "target": 0})
      'regression'
    """
    if "image" in leaves:
        return "image"
    if "video" in leaves:
        return "video"
    if "tokens" in leaves:
        return "text"
    return "regression" if "target" in leaves else "table"


def numbered(where: str, parts: Mapping[str, Leaves], leaf: str) -> dict[str, Leaves]:
    """The parts with values of a leaf that are no numbers (names of classes, of writers) numbered from 0.

    The numbers follow the alphabet, and are the same in all parts.

    Raises:
      UserError: numbers in one part and names in another, which would all be different classes.
    """
    columns = {part: leaves[leaf] for part, leaves in parts.items() if leaf in leaves}
    kinds = {part: "names" if column.dtype.kind == "U" else "numbers" for part, column in columns.items()}
    if len(set(kinds.values())) > 1:
        raise UserError(
            f"{where}: expected {leaf}s of one kind in all parts, numbers or names, got {kinds}. Convert one of them."
        )
    if all(np.issubdtype(column.dtype, np.integer) for column in columns.values()):
        return dict(parts)
    names = np.unique(np.concatenate([column.astype(str) for column in columns.values()]))
    return {
        part: {**leaves, leaf: np.searchsorted(names, columns[part].astype(str))}
        if part in columns
        else leaves
        for part, leaves in parts.items()
    }


def is_stream(tokens: Any) -> bool:
    """Whether tokens are one long sequence, and not one for each example."""
    return tokens is not None and tokens.ndim == 1 and tokens.dtype.kind in "iu"


def are_texts(tokens: np.ndarray) -> bool:
    """Whether the tokens are those of texts: their bytes."""
    return tokens.dtype.kind in "US" or (
        tokens.dtype.kind == "O" and len(tokens) > 0 and isinstance(tokens[0], (str, bytes))
    )


def sequences(where: str, leaves: Leaves, length: int) -> Leaves:
    """Tokens as examples [N, length + 1]; texts are read as their bytes, cut and joined client by client.

    Args:
      leaves: tokens [N, length + 1]; one long sequence [n]; or texts or lists of tokens of any length.
    Raises:
      UserError: sequences of another length, or too little for one.
    """
    tokens = leaves["tokens"]
    if tokens.ndim == 2:
        if tokens.shape[1] != length + 1:
            raise UserError(
                f"{where}: expected sequences of {length + 1} tokens for the size {length} (each predicts the next), "
                f"got {tokens.shape[1]}. Change the size in the task's name to {tokens.shape[1] - 1}."
            )
        return leaves
    clients = leaves.get("client", np.zeros(len(tokens), np.int64))
    rows = tokens[:, None] if is_stream(tokens) else [_ints(where, i, text) for i, text in enumerate(tokens)]
    streams = {c: np.concatenate([rows[i] for i in np.flatnonzero(clients == c)]) for c in np.unique(clients)}
    cut = {client: windows(stream, length) for client, stream in streams.items()}
    examples = {"tokens": np.concatenate(list(cut.values()))}
    if not len(examples["tokens"]):
        raise UserError(
            f"{where}: expected at least {length + 1} tokens, got fewer. Lower the size in the task's name."
        )
    if "client" in leaves:
        examples["client"] = np.concatenate([np.full(len(rows), client) for client, rows in cut.items()])
    return examples


def _ints(where: str, number: int, text: Any) -> np.ndarray:
    """The tokens of one text, or of one list of them."""
    if isinstance(text, (str, bytes)):
        content = text.encode() if isinstance(text, str) else text
        return np.frombuffer(content + b"\n", np.uint8).astype(np.int32)
    try:
        tokens = np.asarray(text)
    except ValueError:
        tokens = np.zeros(())
    if tokens.ndim != 1 or (tokens.dtype.kind not in "iu" and tokens.size):
        raise UserError(
            f"{where}: expected texts or lists of whole numbers as tokens, got {text!r:.40} in row {number}. "
            "Fill or remove such rows."
        )
    return tokens.astype(np.int64)
