"""The source text of Python's own standard library: language modelling with nothing to download.

A module is a natural client. The text is that of the running Python, so losses are comparable between runs on
one Python version only.
"""

import hashlib
import os
from pathlib import Path

import numpy as np

from learned_aggregation.data import DataOptions, Description
from learned_aggregation.data.text import windows
from learned_aggregation.errors import UserError
from learned_aggregation.types import Dataset, Split

VOCABULARY = 128
"""ASCII; every other byte is read as `?`."""
LENGTHS = {"test": 50_000, "outer_valid": 50_000, "inner_valid": 50_000, "train": 3_850_000}
"""Tokens of each split, in the order in which modules are handed out; the last module of a split may exceed it."""
LONGEST_MODULE = 16 * 1024
"""Bytes taken from one module, so that no client has much more than the others."""
LEFT_OUT = ("site-packages", "dist-packages", "test", "tests", "encodings", "pydoc_data", "lib2to3")
"""Folders that are not part of the library, not installed everywhere, or tables instead of text."""


def load(name: str, size: int, options: DataOptions) -> Dataset:
    """About 4 MB of Python, cut into sequences inside modules; `Split.clients` is the module of each sequence.

    Modules are put in the order of a hash of their names and handed out to test, outer_valid, inner_valid and
    train; no module is in two splits.

    Args:
      name: `pytext`.
      size: S, the tokens of a sequence.
      options: not used: the split is the same in every run.
    Returns:
      A Dataset with tokens uint8 [N, S + 1]; num_classes is the vocabulary's 128.
    Raises:
      UserError: no sources there (a Python without them, in a zip file), or sequences longer than any module.
    """
    files = iter(_modules(_library()))
    splits = {}
    for split, length in LENGTHS.items():
        texts: list[np.ndarray] = []
        while sum(map(len, texts)) < length and (file := next(files, None)):
            texts.append(_tokens(file))
        splits[split] = _split(texts, size)
    return Dataset(name, {split: splits[split] for split in reversed(LENGTHS)}, VOCABULARY)


def describe(name: str, size: int, options: DataOptions) -> Description:
    return Description("text", (size,), VOCABULARY, "embedded: the standard library's sources")


def _split(texts: list[np.ndarray], size: int) -> Split:
    parts = [part for text in texts if len(part := windows(text, size))]
    if not parts:
        raise UserError(
            f"pytext: expected modules of more than {size} characters in {_library()}, got {len(texts)} shorter "
            "ones. Use shorter sequences, or a Python that comes with its sources."
        )
    clients = np.repeat(np.arange(len(parts), dtype=np.int32), [len(part) for part in parts])
    return Split({"tokens": np.concatenate(parts)}, clients)


def _library() -> Path:
    return Path(os.__file__).parent


def _modules(library: Path) -> list[Path]:
    """The library's sources, in the order of a hash of their names; without what one machine's build wrote."""
    found = {}
    for path in library.rglob("*.py"):
        name = path.relative_to(library)
        if not set(name.parts) & set(LEFT_OUT) and not path.name.startswith("_sysconfigdata"):
            found[hashlib.sha256(name.as_posix().encode()).hexdigest()] = path
    return [found[key] for key in sorted(found)]


def _tokens(path: Path) -> np.ndarray:
    text = np.frombuffer(path.read_bytes()[:LONGEST_MODULE], np.uint8)
    return np.where(text < VOCABULARY, text, np.uint8(ord("?")))
