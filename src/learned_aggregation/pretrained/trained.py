"""What a theta was meta-trained on, and how a use of it that leaves this is told. No JAX here."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from learned_aggregation.errors import UserError
from learned_aggregation.json_text import parse_json
from learned_aggregation.pretrained.card import RANGES, Card, check_ranges, check_texts, shown_span

TRAINED = "trained"
"""The name of what a theta was meta-trained on among its file's metadata."""

LOCAL_OPTIMIZER = "local_optimizer"
TENSOR_SIZE = "tensor_size"
"""The one range with nothing to be said below it: a bias of one number is in every kind of model."""


class Trained(NamedTuple):
    """What is known of a theta's meta-training; whatever is not known is left by nothing.

    Attributes:
      rule: that theta is of.
      ranges: names of RANGES -> (lowest, highest).
      local_optimizers: the clients' optimizers.
      suggested_rates: clients' optimizer -> the local rate to start from.
    """

    rule: str = ""
    ranges: Mapping[str, tuple[float, float]] = {}
    local_optimizers: Sequence[str] = ()
    suggested_rates: Mapping[str, float] = {}

    def left(self, name: str, values: Sequence[Any]) -> str | None:
        """What is to be said of a use with `values` of one quantity; None where they are within, or nothing is known.

        Args:
          name: of RANGES, with numbers as values, or "local_optimizer", with names.

        Example:
          >>> Trained(ranges={"num_grads": (2, 16)}).left("num_grads", [32])
          'meta-trained with num_grads 2 to 16, used with 32. Compare it with a tuned baseline there.'
          >>> Trained(ranges={"num_grads": (2, 16)}).left("num_grads", [2, 16]) is None
          True
        """
        if not values:
            return None
        if name == LOCAL_OPTIMIZER:
            foreign = [value for value in dict.fromkeys(values) if value not in self.local_optimizers]
            if not self.local_optimizers or not foreign:
                return None
            span, used = ", ".join(self.local_optimizers), ", ".join(foreign)
        else:
            found = (min(values), max(values))
            low, high = self.ranges.get(name, found)
            if (low <= found[0] or name == TENSOR_SIZE) and found[1] <= high:
                return None
            span, used = shown_span((low, high)), shown_span(found)
        return f"meta-trained with {name} {span}, used with {used}. Compare it with a tuned baseline there."

    def suggested_rate(self, where: str, local_optimizer: str) -> float:
        """The clients' rate to start from.

        Raises:
          UserError: none is known for this optimizer; `where` starts the message.
        """
        if local_optimizer in self.suggested_rates:
            return self.suggested_rates[local_optimizer]
        known = ", ".join(self.suggested_rates)
        expected = (
            f"one of the clients' optimizers with a suggested rate, {known}"
            if known
            else "a card with suggested rates"
        )
        got = repr(local_optimizer) if known else "none"
        raise UserError(f"{where}: expected {expected}, got {got}. Tune the clients' rate instead.")


def trained_of_card(card: Card) -> Trained:
    """What a card tells."""
    ranges = {name: (span[0], span[1]) for name, span in card.ranges.items()}
    return Trained(card.aggregator, ranges, tuple(card.local_optimizers), dict(card.suggested_rates))


def trained_text(trained: Trained) -> str:
    """For the metadata beside a theta; see `trained_of_metadata`."""
    return json.dumps({"ranges": trained.ranges, "local_optimizers": trained.local_optimizers})


def trained_of_metadata(where: str, metadata: Mapping[str, str]) -> Trained:
    """What a meta-training run wrote beside its theta.

    Files that earlier versions wrote tell one K, H and rate instead, those of the run.

    Args:
      where: the file; it starts the message.
    Raises:
      UserError: metadata of another kind.
    """
    rule = metadata.get("optimizer", "")
    if TRAINED not in metadata:
        return Trained(rule, {name: (v, v) for name, v in _single_values(where, metadata).items()})
    try:
        told = parse_json(metadata[TRAINED])
    except ValueError:
        told = None
    if not (isinstance(told, dict) and isinstance(told.get("ranges"), dict)):
        raise UserError(
            f"{where}: metadata: expected {TRAINED} to be a JSON object with ranges, got {metadata[TRAINED]!r:.80}. "
            "Use the file as its author wrote it."
        )
    names = told.get("local_optimizers", [])
    check_ranges(f"{where}: metadata", told["ranges"])
    check_texts(f"{where}: metadata", "local_optimizers", names)
    return Trained(rule, {name: (span[0], span[1]) for name, span in told["ranges"].items()}, tuple(names))


def _single_values(where: str, metadata: Mapping[str, str]) -> dict[str, float]:
    found = {}
    for name in RANGES:
        if name not in metadata:
            continue
        try:
            value = parse_json(metadata[name])
        except ValueError:
            value = None
        if not (isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0):
            raise UserError(
                f"{where}: metadata: expected {name} to be a number above 0, got {metadata[name]!r:.80}. "
                "Use the file as its author wrote it."
            )
        found[name] = value
    return found
