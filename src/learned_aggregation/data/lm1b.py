"""The One Billion Word benchmark from TensorFlow Datasets, in the tokens of a seqio vocabulary."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from learned_aggregation.atomic import from_home
from learned_aggregation.data import DataOptions, Description
from learned_aggregation.data.text import windows
from learned_aggregation.data.tfds_files import Source, line, open_folder, read_part, unusable, without_files
from learned_aggregation.errors import UserError
from learned_aggregation.types import Dataset, Split

SOURCE = Source("lm1b", "lm1b", "pytext")
PARTS = {
    "train": ("train[:80%]", 16_000_000),
    "inner_valid": ("train[80%:90%]", 200_000),
    "outer_valid": ("train[90%:]", 200_000),
    "test": ("test", 200_000),
}
"""The part of each split and how many tokens of it are read: the first ones, which fit into memory."""
BYTES = 256 + 3
"""Tokens of seqio's ByteVocabulary: padding, end of sentence, unknown, and the bytes."""


def load(name: str, size: int, options: DataOptions) -> Dataset:
    """Sentences one after the other, each with the vocabulary's end token, cut into sequences.

    Args:
      name: `lm1b`.
      size: S, the tokens of a sequence.
      options: vocabulary, tfds_data_dir, tfds_download and task are used.
    Returns:
      A Dataset with tokens uint16 (int32 where the vocabulary is larger) [N, S + 1]; num_classes is the
      vocabulary's size.
    Raises:
      UserError: the data, seqio or the vocabulary is missing or cannot be read.
    """
    folder = open_folder(SOURCE, options)
    vocabulary = _vocabulary(options)
    try:
        splits = {split: _read(folder, *part, vocabulary, size) for split, part in PARTS.items()}
    except Exception as error:  # whatever TFDS and its record readers raise on damaged files
        raise unusable(SOURCE, options, f"{line(error)} in {folder}") from error
    return Dataset(name, splits, vocabulary.vocab_size)


def describe(name: str, size: int, options: DataOptions) -> Description:
    if options.vocabulary is None:
        return Description("text", (size,), BYTES, "TFDS lm1b, bytes (vocabulary sets another)")
    return Description("text", (size,), _vocabulary(options).vocab_size, f"TFDS lm1b, {options.vocabulary}")


def _read(folder: Path, part: str, limit: int, vocabulary: Any, size: int) -> Split:
    dtype = np.uint16 if vocabulary.vocab_size <= 2**16 else np.int32
    tokens = np.fromiter(_tokens(folder, part, limit, vocabulary), dtype)
    sequences = windows(tokens, size)
    if not len(sequences):
        raise ValueError(f"{len(tokens)} tokens in {part}, fewer than a sequence of {size}")
    return Split({"tokens": sequences})


def _tokens(folder: Path, part: str, limit: int, vocabulary: Any) -> Iterator[int]:
    """The first tokens of a part: whole sentences until there are `limit`."""
    count = 0
    for example in read_part(folder, part).examples:
        sentence = [*vocabulary.encode(example["text"].decode()), vocabulary.eos_id]
        yield from sentence
        count += len(sentence)
        if count >= limit:
            return


def _vocabulary(options: DataOptions) -> Any:
    """seqio's vocabulary: `vocab_size`, `eos_id`, `encode`."""
    instead = f"Or run without files: {without_files(SOURCE, options)}."
    if importlib.util.find_spec("seqio") is None:
        raise UserError(
            "lm1b: expected the package seqio to read text with, got none. Install it with `pip install seqio` "
            f"(it needs TensorFlow). {instead}"
        )
    import seqio  # pyright: ignore[reportMissingImports]

    if options.vocabulary is None:
        return seqio.ByteVocabulary()
    path = from_home(options.vocabulary)
    try:
        vocabulary = seqio.SentencePieceVocabulary(str(path))
        vocabulary.vocab_size  # noqa: B018  it is read from the file only now
        return vocabulary
    except Exception as error:  # SentencePiece and TensorFlow raise what they like for a file that is none
        raise UserError(
            f"vocabulary: expected a SentencePiece model, got {str(path)!r} ({line(error)}). Name a .model file, "
            f"or leave vocabulary out to read bytes. {instead}"
        ) from None
