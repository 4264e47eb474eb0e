"""The card of a pretrained aggregator: what it is, what it was meta-trained on, how it was tested. No JAX here."""

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from learned_aggregation.errors import UserError
from learned_aggregation.json_text import parse_json
from learned_aggregation.registry import is_outside

FORMAT = "learned_aggregation.card.1"
CARD_FILE, THETA_FILE, README_FILE = "card.json", "theta.safetensors", "README.md"

RANGES = (
    *("num_grads", "num_local_steps", "local_learning_rate"),
    *("num_rounds", "tensor_size", "model_size"),
)
"""What `Card.ranges` tells: K, H, the clients' rate, rounds of an episode, and how many numbers a tensor of the trained
models and a whole model have."""


@dataclass(frozen=True)
class Card:
    """Everything in `card.json`; JSON values only.

    Attributes:
      name: of the pretrained aggregator, and of its directory.
      aggregator: the registered rule.
      options: of the rule, as `get_aggregator` takes them.
      theta_sha256: of theta.safetensors; checked whenever it is read.
      num_parameters: numbers in theta.
      ranges: of RANGES -> [lowest, highest] meta-trained on. Of rounds the lowest is 1; cards of earlier versions tell
        the first three alone.
      trained_on: the other settings of its meta-training: tasks, partition, estimator, seed, ...
      meta_loss: [[outer step, meta-loss], ...], a thinned curve.
      cost: outer steps, wall time in seconds, machine, versions.
      results: rows of comparisons, each with its source.
      command: that remakes theta.
      notes: sentences of whoever exported it.
      local_optimizers: the clients' optimizers that it was meta-trained with; [] if that is not known.
      suggested_rates: clients' optimizer -> the local rate that a user should start from.
      strengths: clients' optimizer -> the option `strength` of the rule with such clients; 1 with others.
    """

    name: str
    aggregator: str
    options: Mapping[str, Any]
    theta_sha256: str
    num_parameters: int
    ranges: Mapping[str, Sequence[float]] = field(default_factory=dict)
    trained_on: Mapping[str, Any] = field(default_factory=dict)
    meta_loss: Sequence[Sequence[float]] = ()
    cost: Mapping[str, Any] = field(default_factory=dict)
    results: Sequence[Mapping[str, Any]] = ()
    command: str = ""
    notes: Sequence[str] = ()
    local_optimizers: Sequence[str] = ()
    suggested_rates: Mapping[str, float] = field(default_factory=dict)
    strengths: Mapping[str, float] = field(default_factory=dict)


_KINDS = {"num_parameters": int} | dict.fromkeys(("name", "aggregator", "theta_sha256", "command"), str)
_KINDS |= dict.fromkeys(("options", "ranges", "trained_on", "cost"), dict)
_KINDS |= dict.fromkeys(("meta_loss", "results", "notes"), list)
_ADDED = {"local_optimizers": list, "suggested_rates": dict, "strengths": dict}
"""Fields that cards of earlier versions do not have."""


def card_text(card: Card) -> str:
    """The card as JSON.

    Raises:
      UserError: something in it that JSON or UTF-8 cannot hold.
    """
    try:
        text = json.dumps({"format": FORMAT, **asdict(card)}, indent=1, allow_nan=False) + "\n"
        json.dumps(
            asdict(card), ensure_ascii=False
        ).encode()  # the page is written with the characters themselves
    except (ValueError, TypeError, RecursionError) as error:  # UnicodeEncodeError is a ValueError
        raise UserError(
            f"card of {card.name}: expected text in UTF-8 and finite numbers, got {error}. Write them otherwise."
        ) from None
    return text


def read_card(directory: Path) -> Card:
    """The card in a pretrained aggregator's directory.

    Raises:
      UserError: no card, not JSON, of another format, or a field that is missing, unknown or of another type.
    """
    path = directory / CARD_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise _bad(path, "a readable card", str(getattr(error, "strerror", None) or error)) from None
    return parse_card(path, text)


def parse_card(path: Path, text: str) -> Card:
    """The card that a text is; `path` starts the message.

    Raises:
      UserError: see `read_card`.
    """
    try:
        values = parse_json(text)
    except ValueError as error:
        raise _bad(path, "a readable card", str(error)) from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        found = values.get("format") if isinstance(values, dict) else type(values).__name__
        raise _bad(path, f"a card of format {FORMAT!r}", repr(found))
    del values["format"]
    for name, value in values.items():
        kinds = _KINDS | _ADDED
        if name not in kinds:
            raise _bad(path, f"fields among {', '.join(kinds)}", repr(name))
        if not isinstance(value, kinds[name]):
            raise _bad(path, f"{name} to be a {kinds[name].__name__}", repr(value)[:60])
    if missing := [name for name in _KINDS if name not in values]:
        raise _bad(path, f"the fields {', '.join(missing)}", "none of them")
    card = Card(**values)
    check_ranges(path, card.ranges)
    _check_lists(path, card)
    for field_name in ("suggested_rates", "strengths"):
        _check_rates(path, field_name, getattr(card, field_name))
    for text in (card.aggregator, *card.options.values()):
        if is_outside(text):  # it would be imported; only what the user names is
            raise _bad(path, "names of the package", f"{text!r}, a module from outside")
    return card


STAGED = ".theta.*.safetensors"


def staged_theta(card: Card) -> str:
    """The file name of the card's theta while an export is under way."""
    return STAGED.replace("*", card.theta_sha256[:16])


def theta_of(directory: Path) -> Path:
    """The theta file of a pretrained aggregator.

    The card decides: an export that was killed after its card has left the theta that it names beside the old one.
    """
    name = staged_theta(read_card(directory))
    staged = directory / name
    return staged if Path(name).name == name and os.path.isfile(staged) else directory / THETA_FILE


def check_theta_hash(path: Path, content: bytes) -> None:
    """Raises a UserError unless the theta file's content is the one that the card beside it names."""
    want, got = read_card(path.parent).theta_sha256, hashlib.sha256(content).hexdigest()
    if got != want:
        raise _bad(path, f"sha256 {want}, as {CARD_FILE} says", got)


def check_ranges(path: Path | str, ranges: Mapping[str, Any]) -> None:
    """Raises a UserError for a range that is not of RANGES or not [lowest, highest]."""
    for name, span in ranges.items():
        is_pair = isinstance(span, list) and len(span) == 2 and all(type(x) in (int, float) for x in span)
        if name not in RANGES or not is_pair or not span[0] <= span[1]:
            raise _bad(path, f"ranges [lowest, highest] of {', '.join(RANGES)}", f"{name}: {span!r}")


def _check_lists(path: Path, card: Card) -> None:
    """Refuses lists of other things than a card has, on which its page would fail."""
    for pair in card.meta_loss:
        if not (isinstance(pair, list) and len(pair) == 2 and all(type(x) in (int, float) for x in pair)):
            raise _bad(path, "meta_loss to be pairs of numbers", repr(pair)[:60])
    for row in card.results:
        if not isinstance(row, dict) or not isinstance(row.get("source", ""), str):
            raise _bad(path, "results to be rows, with the name of their source", repr(row)[:60])
    check_texts(path, "notes", card.notes)
    check_texts(path, "local_optimizers", card.local_optimizers)


def check_texts(path: Path | str, name: str, values: Any) -> None:
    """Raises a UserError unless it is a list of texts."""
    if not isinstance(values, (list, tuple)):
        raise _bad(path, f"{name} to be a list of texts", f"{values!r:.60}")
    for value in values:
        if not isinstance(value, str):
            raise _bad(path, f"{name} to be texts", f"{value!r:.60}")


def _check_rates(path: Path, what: str, rates: Mapping[str, Any]) -> None:
    for name, rate in rates.items():
        if type(rate) not in (int, float) or rate <= 0:
            raise _bad(path, f"{what} to be numbers above 0", f"{name}: {rate!r:.60}")


def _bad(path: Path | str, expected: str, got: str) -> UserError:
    return UserError(f"{path}: expected {expected}, got {got}. Export it again, or copy an intact one.")


def readme_text(card: Card) -> str:
    """The card as a page to read."""
    facts = {**card.trained_on, **card.cost}
    tables = {name: rows for name, rows in facts.items() if isinstance(rows, list) and _are_mappings(rows)}
    lines = [
        f"# {card.name}",
        "",
        "Generated from `card.json` by `python -m learned_aggregation.export`; edit neither by hand.",
        "",
        "```python",
        "import learned_aggregation",
        "",
        f'agg = learned_aggregation.load_aggregator("{card.name}")',
        "state = agg.init(params)",
        "params, state = agg.update(params, deltas, weights, state)  # once a round",
        "```",
        "",
        f"- Rule: `{card.aggregator}`" + _listed(card.options),
        f"- theta: {card.num_parameters} numbers, sha256 `{card.theta_sha256}`",
        *(f"- {note}" for note in card.notes),
        *_suggestions(card),
        "",
        "## Meta-training",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {shown_span(span)} |" for name, span in card.ranges.items()),
        *([f"| clients' optimizers | {_cell(card.local_optimizers)} |"] if card.local_optimizers else []),
        *(f"| {name} | {_cell(value)} |" for name, value in facts.items() if name not in tables),
    ]
    for name, rows in tables.items():
        lines += ["", f"{name}:", "", *_table(rows)]
    if card.command:
        lines += ["", "Remade by", "", "```", card.command, "```"]
    if card.meta_loss:
        lines += ["", "| outer step | meta-loss |", "|---|---|"]
        lines += [f"| {step:g} | {loss:.4f} |" for step, loss in card.meta_loss]
    for source in dict.fromkeys(row.get("source", "") for row in card.results):
        rows = [row for row in card.results if row.get("source", "") == source]
        lines += ["", f"## Results: {source}", "", *_table(rows)]
    return "\n".join(lines) + "\n"


def _are_mappings(rows: Sequence[Any]) -> bool:
    return bool(rows) and all(isinstance(row, Mapping) for row in rows)


def _listed(options: Mapping[str, Any]) -> str:
    return f" with {', '.join(f'{name}={value}' for name, value in options.items())}" if options else ""


def _suggestions(card: Card) -> list[str]:
    rates = _by_optimizer(card.suggested_rates)
    found = [f"- Local rate to start from: {rates} (`agg.suggested_rate()`)"] if rates else []
    strengths = _by_optimizer(card.strengths)
    how = "`load_aggregator(..., local_optimizer=...)`, and a run by its setting"
    return found + ([f"- Strength: {strengths}; 1 with others ({how})"] if strengths else [])


def _by_optimizer(numbers: Mapping[str, float]) -> str:
    return ", ".join(f"{number:g} with {name}" for name, number in numbers.items())


def shown_span(span: Sequence[float]) -> str:
    """[lowest, highest] as text; whole numbers with all their digits.

    Example:
      >>> shown_span([1, 1003520]), shown_span([0.5, 0.5])
      ('1 to 1003520', '0.5')
    """
    low, high = (str(int(x)) if float(x).is_integer() else f"{x:g}" for x in span)
    return low if low == high else f"{low} to {high}"


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    columns = list(dict.fromkeys(name for row in rows for name in row if name != "source"))
    body = [f"| {' | '.join(_cell(row.get(name, '')) for name in columns)} |" for row in rows]
    return [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns), *body]


def _cell(value: Any) -> str:
    if isinstance(value, float):
        text = f"{value:.4g}" if math.isfinite(value) else "not reached"
    elif isinstance(value, Mapping):
        text = ", ".join(f"{name} {item}" for name, item in value.items())
    elif isinstance(value, (list, tuple)):
        text = ", ".join(map(str, value))
    else:
        text = str(value)
    return text.replace("|", "\\|").replace("\n", " ")
