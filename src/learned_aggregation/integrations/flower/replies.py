"""What clients answer: checked, so that one bad reply does not end the run, and put in a fixed order."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from flwr.app import Message, MetricRecord, RecordDict  # pyright: ignore[reportMissingImports]

from learned_aggregation.integrations.flower.cohorts import difference
from learned_aggregation.integrations.flower.records import record_to_arrays
from learned_aggregation.pretrained.theta_file import first_difference, shapes


class UnusableError(Exception):
    """A reply that is left out; the message says why."""


class Keys(NamedTuple):
    """Names of metrics: the client's number of examples and its place in the order."""

    weight: str
    client: str


class Reply(NamedTuple):
    """A reply that can be used.

    place: sorts the clients of a round.
    arrays: by name, as the client sent them; {} of an evaluation, and once they are added to the cohort.
    """

    place: tuple[float, int]
    arrays: dict[str, np.ndarray]
    weight: float
    metrics: MetricRecord


def read_reply(message: Message, keys: Keys, server: Mapping[str, np.ndarray] | None) -> Reply:
    """The reply in a message.

    Args:
      server: the arrays that the client trained from; None for an evaluation, which answers with none.
    Raises:
      UnusableError: an error reply; not one MetricRecord (and one ArrayRecord); no weight above 0; arrays with
        other names or shapes than the server's, or not finite.
    """
    if message.has_error():
        raise UnusableError(f"error {message.error.code}: {message.error.reason}")
    metrics = _only("MetricRecord", message.content.metric_records)
    weight = _number(metrics, keys.weight)
    if not 0 < weight < math.inf:
        raise UnusableError(f"{keys.weight} is {weight!r}")
    client = _number(metrics, keys.client) if keys.client in metrics else math.inf
    arrays = {} if server is None else _arrays(message, server)
    return Reply((client, message.metadata.src_node_id), arrays, weight, metrics)


def average_metrics(
    replies: Sequence[Reply], keys: Keys, average: Callable[[list[RecordDict], str], MetricRecord]
) -> MetricRecord:
    """The metrics that all replies have in the same form, averaged by Flower's function."""
    forms = [
        {(name, len(v) if isinstance(v, list) else None) for name, v in r.metrics.items()} for r in replies
    ]
    shared = {name for name, _ in set.intersection(*forms)} - {keys.client}
    records = [MetricRecord({name: r.metrics[name] for name in r.metrics if name in shared}) for r in replies]
    return average([RecordDict({"metrics": record}) for record in records], keys.weight)


def _arrays(message: Message, server: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    try:
        arrays = record_to_arrays(_only("ArrayRecord", message.content.array_records))
    except (EOFError, OSError, TypeError, ValueError) as error:
        raise UnusableError(f"an array that cannot be read: {error}") from error
    change = first_difference(shapes(arrays), shapes(server))
    if change is not None:
        name, got, want = change
        raise UnusableError(f"array {name!r} is {got}, not {want}")
    for name, leaf in arrays.items():
        if leaf.dtype.kind not in "iuf":
            raise UnusableError(f"array {name!r} holds {leaf.dtype}")
        if not np.isfinite(difference(leaf, server[name])).all():
            raise UnusableError(f"array {name!r} holds NaN or infinity")
    return arrays


def _only(kind: str, records: Mapping[str, Any]) -> Any:
    if len(records) != 1:
        raise UnusableError(f"{len(records)} records of type {kind}, not 1")
    return next(iter(records.values()))


def _number(metrics: MetricRecord, name: str) -> float:
    if name not in metrics:
        raise UnusableError(f"metric {name!r} is missing")
    value = metrics[name]
    if not isinstance(value, (int, float)):
        raise UnusableError(f"metric {name!r} is {value!r}, not a number")
    return value
