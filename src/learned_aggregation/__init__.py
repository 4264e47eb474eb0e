"""Learned Aggregation: train, test and use learned server-side optimizers."""

from importlib import import_module
from typing import Any

from learned_aggregation import moved

__version__ = "0.1.0"

_PUBLIC = {
    "meta_train": "learned_aggregation.api",
    "benchmark": "learned_aggregation.api",
    "compare": "learned_aggregation.api",
    "get_aggregator": "learned_aggregation.aggregators",
    "get_compressor": "learned_aggregation.federated.compressors",
    "load_aggregator": "learned_aggregation.pretrained.loading",
    "pretrained_names": "learned_aggregation.pretrained.names",
    "DropIn": "learned_aggregation.pretrained.drop_in",
    "masked": "learned_aggregation.aggregators.masking",
    "Aggregator": "learned_aggregation.types",
    "ClientUpdate": "learned_aggregation.types",
    "Task": "learned_aggregation.types",
}
__all__ = ["__version__", *_PUBLIC]

moved.install()


def __getattr__(name: str) -> Any:
    """Imports the public names on first use, so that `--help` does not pay for JAX."""
    if name in moved.MOVED and name not in moved.FUNCTIONS:
        return import_module(f"{__name__}.{name}")
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    """What there is to import, for completion, without importing it."""
    return sorted(__all__)
