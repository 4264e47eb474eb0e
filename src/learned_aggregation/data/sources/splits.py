"""Which examples are in which split: as the source divides them, and cut by fractions where it does not."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from learned_aggregation.data.sources import WHOLE, Parts
from learned_aggregation.errors import UserError

NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "val", "validation", "dev"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
    "inner_valid": "inner_valid",
    "outer_valid": "outer_valid",
}
"""What a part may be called -> what it is."""


class Rows(NamedTuple):
    """The part that a split comes from, and the ids of its examples in it, ascending."""

    part: str
    ids: np.ndarray


def divide(
    where: str, counts: Mapping[str, int], fractions: tuple[float, float, float], seed: int
) -> dict[str, Rows]:
    """The rows of train, inner_valid, outer_valid and test.

    A valid part is halved into inner_valid and outer_valid. What the source does not have is cut from its train part,
    or from the whole, at random: the valid and test fractions of it.

    Args:
      counts: part -> its examples; WHOLE alone, or names of NAMES with "train" among them.
      fractions: of train, valid and test.
    Raises:
      UserError: no train part, or a split without an example.

    Example:
      >>> {split: len(rows.ids) for split, rows in divide("mine", {"": 100}, (0.8, 0.1, 0.1), 0).items()}
      {'train': 80, 'inner_valid': 5, 'outer_valid': 5, 'test': 10}
    """
    source = WHOLE if WHOLE in counts else "train"
    if source not in counts:
        raise UserError(
            f"{where}: expected a train part, got {', '.join(counts) or 'nothing'}. Name one train, or divide nothing."
        )
    order = np.random.RandomState(seed).permutation(
        counts[source]
    )  # its stream is frozen, Generator's is not
    valid_given = "valid" in counts or {"inner_valid", "outer_valid"} <= counts.keys()
    taken = [
        0 if valid_given else round(fractions[1] * len(order)),
        0 if "test" in counts else round(fractions[2] * len(order)),
    ]
    train, valid, test = np.split(order, np.cumsum([len(order) - sum(taken), taken[0]]))
    found = {"train": Rows(source, train)}
    for split, half in zip(("inner_valid", "outer_valid"), np.array_split(valid, 2), strict=True):
        found[split] = Rows(source, half)
    found["test"] = Rows(source, test)
    if "valid" in counts:
        halves = np.array_split(np.random.RandomState(seed).permutation(counts["valid"]), 2)
        found |= {
            f"{which}_valid": Rows("valid", ids)
            for which, ids in zip(("inner", "outer"), halves, strict=True)
        }
    for split in ("inner_valid", "outer_valid", "test"):
        if split in counts and (split == "test" or valid_given):
            found[split] = Rows(split, np.arange(counts[split]))
    for split, rows in found.items():
        if not len(rows.ids):
            raise UserError(
                f"{where}: expected examples in every split, got none in {split}. Change the fractions."
            )
    return {split: Rows(rows.part, np.sort(rows.ids)) for split, rows in found.items()}


def canonical(where: str, part: str) -> str:
    """What a part called `part` is. Raises a UserError for a name that says nothing."""
    if part.lower() not in NAMES:
        raise UserError(
            f"{where}: expected parts called {', '.join(NAMES)}, got {part!r}. Rename it, or leave the division out."
        )
    return NAMES[part.lower()]


def in_parts(columns: Mapping[str, np.ndarray]) -> Parts:
    """Columns called PART_NAME, sorted into their parts; as they are where none is.

    Example:
      >>> {part: list(names) for part, names in in_parts({"train_label": 1, "test_label": 2}).items()}
      {'train': ['label'], 'test': ['label']}
    """
    parts: dict[str, dict[str, np.ndarray]] = {}
    for name, values in columns.items():
        prefix = next((p for p in sorted(NAMES, key=len, reverse=True) if name.startswith(f"{p}_")), None)
        if prefix is None:
            return {WHOLE: columns}
        parts.setdefault(prefix, {})[name.removeprefix(f"{prefix}_")] = values
    return parts
