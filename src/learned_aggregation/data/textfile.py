"""Any text: the bytes of a file that the user names."""

import numpy as np

from learned_aggregation.atomic import from_home
from learned_aggregation.data import DataOptions, Description
from learned_aggregation.data.text import windows
from learned_aggregation.errors import UserError
from learned_aggregation.types import SPLITS, Dataset, Split

VOCABULARY = 256
"""Bytes: characters, for text in ASCII."""
PARTS = (0.85, 0.05, 0.05, 0.05)
"""Of the file, for each of SPLITS, one after the other."""


def load(name: str, size: int, options: DataOptions) -> Dataset:
    """The file's bytes, cut into sequences: the first 85 % to train on, then 5 % each.

    Args:
      name: `textfile`.
      size: S, the tokens of a sequence.
      options: text_file is used.
    Returns:
      A Dataset with tokens uint8 [N, S + 1]; num_classes is 256.
    Raises:
      UserError: no file is named, it cannot be read, or a part of it is shorter than a sequence.
    """
    if options.text_file is None:
        raise UserError(
            "textfile: expected the path of a text, got none. Give it as --text_file PATH, or run without files: "
            "'pytext' in place of 'textfile' in the task name."
        )
    path = from_home(options.text_file)
    try:
        tokens = np.fromfile(path, np.uint8)
    except OSError as error:
        raise UserError(
            f"text_file: expected a file that can be read, got {str(path)!r} ({error.strerror}). Name another."
        ) from None
    ends = np.round(np.cumsum(PARTS) * len(tokens)).astype(int)[:-1]
    splits = {}
    for split, share, part in zip(SPLITS, PARTS, np.split(tokens, ends), strict=True):
        splits[split] = Split({"tokens": windows(part, size)})
        if len(part) <= size:
            raise UserError(
                f"text_file: expected {split}, {share:.0%} of the file, to be longer than a sequence of {size}, got "
                f"{len(tokens)} bytes in all. Name a longer text, or use shorter sequences."
            )
    return Dataset(name, splits, VOCABULARY)


def describe(name: str, size: int, options: DataOptions) -> Description:
    return Description("text", (size,), VOCABULARY, "a file: text_file, as bytes")
