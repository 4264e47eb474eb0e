"""Where the pretrained aggregators lie. No JAX here: names are looked up while settings are read."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from learned_aggregation.pretrained.card import CARD_FILE, THETA_FILE, Card, read_card

_PACKAGE = Path(__file__).parents[1]
PLACES = (_PACKAGE / "_pretrained", _PACKAGE.parents[1] / "checkpoints" / "pretrained")
"""Package data of an installation (setup.py copies it there); the repository's own directory."""


def pretrained_names() -> list[str]:
    """The pretrained aggregators at hand."""
    return sorted({path.parent.name for place in PLACES for path in place.glob(f"*/{CARD_FILE}")})


def pretrained_directory(name: str | os.PathLike) -> Path | None:
    """Where the pretrained aggregator `name` lies; None if there is none of that name."""
    if not name or Path(name).name != str(name):  # a path
        return None
    found = (place / name for place in PLACES)
    return next((path for path in found if has_card(path)), None)


def card_of(source: str | os.PathLike) -> Card | None:
    """The card behind a name, a directory or the theta in it; None for any other path."""
    path = pretrained_directory(source) or Path(source)
    directory = path.parent if path.name == THETA_FILE else path
    return read_card(directory) if has_card(directory) else None


def has_card(directory: Path) -> bool:
    """Whether it is a pretrained aggregator's; any text may be asked about."""
    return os.path.isfile(directory / CARD_FILE)


def card_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the card behind `test_checkpoint` gives: the optimizer and its options; {} without one.

    Args:
      values: the settings that are given; they go over these.
    """
    source = values.get("test_checkpoint")
    card = card_of(source) if isinstance(source, str) else None
    return {} if card is None else {"optimizer": card.aggregator, **card.options}
