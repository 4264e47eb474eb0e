"""Aggregators as strategies of Flower's message API. Needs `flwr`: learned-aggregation[flower]."""

try:
    import flwr.serverapp.strategy  # noqa: F401  # pyright: ignore[reportMissingImports]
except ImportError as error:
    raise ImportError(
        f"learned_aggregation.integrations.flower: expected flwr with its message API, got {str(error)!r}. "
        "Install learned-aggregation[flower]."
    ) from error

from learned_aggregation.integrations.flower.records import from_record, to_record
from learned_aggregation.integrations.flower.strategy import LearnedAggregation

__all__ = ["LearnedAggregation", "from_record", "to_record"]
