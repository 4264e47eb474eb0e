"""The package from Python, without a config file: objects in, curves and tables out."""

from learned_aggregation.api.calls import benchmark, compare, meta_train
from learned_aggregation.api.results import MetaTrained, Result, Table

__all__ = ["MetaTrained", "Result", "Table", "benchmark", "compare", "meta_train"]
