"""Where the pretrained aggregators lie. No JAX here: names are looked up while settings are read."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from learned_aggregation.errors import UserError
from learned_aggregation.pretrained.card import CARD_FILE, THETA_FILE, Card, read_card

_PACKAGE = Path(__file__).parents[1]
PLACES = (_PACKAGE / "_pretrained", _PACKAGE.parents[1] / "checkpoints" / "pretrained")
"""Package data of an installation (setup.py copies it there); the repository's own directory."""

RULE_SETTINGS = (
    *("num_grads", "hidden_size", "base", "base_learning_rate", "base_momentum"),
    *("learning_rate", "slowmo_learning_rate", "beta"),
)
"""Options of rules that are settings of their own, and the only settings that a card can give."""

NOT_A_CARD_S = ("local_learning_rate",)
"""An option of a rule that is the clients' rate: the user's to choose."""


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
    """The card behind a name, a directory or the theta in it; None for any other path.

    Raises:
      UserError: a card that `read_card` refuses, or one with options that are not its rule's: a card is a file from
        elsewhere, and says nothing about a run but which rule it is.
    """
    path = pretrained_directory(source) or Path(os.path.expanduser(source))
    directory = path.parent if path.name == THETA_FILE else path
    if not has_card(directory):
        return None
    card = read_card(directory)
    check_rule_options(f"{directory / CARD_FILE}: options", card.aggregator, card.options)
    return card


def check_rule_options(where: str, rule: str, options: Mapping[str, Any]) -> None:
    """Refuses options that a rule does not take, or of another kind than it takes; JAX is imported for this.

    Args:
      where: the file that they are from; it starts the message.
    Raises:
      UserError: an unknown rule, or the first option at fault.
    """
    from learned_aggregation.aggregators import option_kinds

    kinds = option_kinds(rule)
    for name, value in options.items():
        if name not in kinds or name in NOT_A_CARD_S:
            expected = ", ".join(known for known in kinds if known not in NOT_A_CARD_S)
            raise _foreign(where, f"options of {rule} ({expected})", name)
        if not _is_of_kind(value, kinds[name]):
            raise _foreign(where, f"{name} to be a {kinds[name].__name__}", value)


def _is_of_kind(value: Any, kind: type) -> bool:
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is kind


def _foreign(where: str, expected: str, got: Any) -> UserError:
    text = f"{where}: expected {expected}, got {repr(got)[:80]}. Use the file as its author wrote it."
    return UserError(" ".join(text.split()))


def has_card(directory: Path) -> bool:
    """Whether it is a pretrained aggregator's; any text may be asked about."""
    return os.path.isfile(directory / CARD_FILE)


def card_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the card behind `test_checkpoint` gives: the optimizer and its options; {} without one.

    Options of the rule that are no settings of their own are `rule_options`.

    Args:
      values: the settings that are given; they go over these.
    """
    source = values.get("test_checkpoint")
    card = card_of(source) if isinstance(source, str) else None
    if card is None:
        return {}
    settings = {name: value for name, value in card.options.items() if name in RULE_SETTINGS}
    rest = {name: value for name, value in card.options.items() if name not in RULE_SETTINGS}
    return {"optimizer": card.aggregator, **settings} | ({"rule_options": rest} if rest else {})


def strength_of(card: Card | None, local_optimizer: str | None) -> dict[str, float]:
    """{"strength": ...} where the card has one for clients with that optimizer, else {}."""
    found = None if card is None else card.strengths.get(local_optimizer or "")
    return {} if found is None else {"strength": found}
