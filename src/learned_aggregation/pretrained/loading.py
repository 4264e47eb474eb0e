"""From the name or the path of a meta-trained aggregator to a DropIn."""

import os
from collections.abc import Mapping
from typing import Any

from learned_aggregation.aggregators import AGGREGATORS, accepted_options
from learned_aggregation.errors import UserError
from learned_aggregation.json_text import parse_json
from learned_aggregation.pretrained.drop_in import DropIn
from learned_aggregation.pretrained.names import card_of, check_rule_options, strength_of
from learned_aggregation.pretrained.theta_file import load_theta
from learned_aggregation.pretrained.trained import Trained, trained_of_card, trained_of_metadata


def load_aggregator(
    source: str | os.PathLike,
    *,
    num_local_steps: int | None = None,
    local_learning_rate: float | None = None,
    num_rounds: int | None = None,
    local_optimizer: str | None = None,
) -> DropIn:
    """A meta-trained aggregator, ready for a training loop.

        agg = learned_aggregation.load_aggregator("lagg-set")
        state = agg.init(params)
        params, state = agg.update(params, deltas, weights, state)   # once a round

    Args:
      source: the name of a pretrained aggregator (`pretrained_names()`); the directory of one; the checkpoint
        directory of a meta-training run, `checkpoints/NAME`; or a `global_step*.safetensors` in one.
      num_local_steps, local_learning_rate, local_optimizer: of the clients, and
      num_rounds: of the whole training, if you like to be warned when the aggregator was meta-trained with others. The
        clients' optimizer also chooses the strength that the card has for it.
    Returns:
      A DropIn; see there for `init`, `update`, `step`.
    Raises:
      UserError: nothing of that name or path, a corrupt or changed file, a theta without metadata (of the
        published reference: build a DropIn with its options).
    """
    theta, metadata = load_theta(source)
    card = card_of(source)
    if card is not None:
        rule, name, trained = card.aggregator, card.name, trained_of_card(card)
        options = {**card.options, **strength_of(card, local_optimizer)}
    else:
        rule, options = _from_metadata(source, metadata)
        name, trained = rule, trained_of_metadata(str(source), metadata)
    loaded = DropIn(
        rule,
        theta,
        options=options,
        name=name,
        trained=trained.ranges,
        local_optimizers=trained.local_optimizers,
        suggested_rates=trained.suggested_rates,
    )
    loaded.check_problem(
        num_local_steps=num_local_steps,
        local_learning_rate=local_learning_rate,
        num_rounds=num_rounds,
        local_optimizer=local_optimizer,
    )
    return loaded


def trained_of(source: str | os.PathLike) -> Trained:
    """What the theta of a name or path was meta-trained on, by its card or its metadata.

    Raises:
      UserError: as `load_theta`.
    """
    card = card_of(source)
    if card is not None:
        return trained_of_card(card)
    return trained_of_metadata(str(source), load_theta(source)[1])


def _from_metadata(source: str | os.PathLike, metadata: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """(rule, its options) that a meta-training run wrote beside theta."""
    if "optimizer" not in metadata:
        raise UserError(
            f"{source}: expected a theta that says which rule it is of, got no metadata. "
            "Read it with theta_file.load_theta and make a DropIn with the rule's name and options."
        )
    rule = AGGREGATORS.check_registered(metadata["optimizer"])  # a file must not name a module to import
    known = {name: _number(text) for name, text in metadata.items()}
    options = {name: known[name] for name in accepted_options(rule) if name in known}
    check_rule_options(f"{source}: metadata", rule, options)
    return rule, options


def _number(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        return text
