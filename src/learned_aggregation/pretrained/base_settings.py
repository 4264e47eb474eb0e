"""The base of a theta that a path names, for a config that says nothing of it. JAX is imported when a file is read."""

from collections.abc import Mapping
from typing import Any

from learned_aggregation.errors import UserError
from learned_aggregation.json_text import parse_json
from learned_aggregation.pretrained.names import card_of

_BASE = ("base", "base_learning_rate", "base_momentum")


def base_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the base that are None in `values`, as the theta at `test_checkpoint` was meta-trained for.

    A pretrained aggregator's card gives its settings elsewhere. A file that cannot be read gives none: it is refused
    where its theta is needed.

    Args:
      values: all settings of a run.

    Example:
      >>> base_settings({"optimizer": "fedlagg-set", "test_checkpoint": None})
      {}
    """
    asked = [name for name in _BASE if values.get(name) is None]
    source = values.get("test_checkpoint")
    if not asked or not isinstance(source, str):
        return {}
    from learned_aggregation.pretrained.theta_file import load_theta

    try:
        metadata = {} if card_of(source) is not None else load_theta(source)[1]
    except UserError:
        return {}
    if metadata.get("optimizer") != values.get("optimizer"):
        return {}
    return {name: _value(metadata[name]) for name in asked if name in metadata}


def _value(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        return text
