"""Whether the splits of a data set fit each other: what a model is made for is read from the train split alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from learned_aggregation.errors import UserError

if TYPE_CHECKING:
    from learned_aggregation.types import Split


def check_alike(where: str, splits: Mapping[str, Split]) -> None:
    """Refuses a split whose examples have other leaves, shapes or types than those of train.

    Raises:
      UserError: naming the split and the leaf.
    """
    wanted = _forms(splits["train"])
    for name, split in splits.items():
        found = _forms(split)
        for leaf in {**wanted, **found}:
            if found.get(leaf) != wanted.get(leaf):
                raise UserError(
                    f"{where}: expected examples of one form in all splits, got {leaf} {wanted.get(leaf, 'missing')} "
                    f"in train and {found.get(leaf, 'missing')} in {name}. Make them alike."
                )


def _forms(split: Split) -> dict[str, str]:
    """leaf -> type and shape of one example."""
    return {leaf: f"{of.dtype}{list(of.shape[1:])}" for leaf, of in split.examples.items()}
