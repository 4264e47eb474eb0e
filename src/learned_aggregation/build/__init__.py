"""The composition root: a Config to objects. The only reader of the registries; a config stops here."""

from learned_aggregation.build.data import Loader, TaskData, data_options, load_task, train_data
from learned_aggregation.build.meta_testing import meta_test
from learned_aggregation.build.meta_training import MetaTraining, fastest_chunk, meta_mesh, meta_training
from learned_aggregation.build.parts import (
    examples_note,
    frozen_changes,
    make_local_training,
    make_parts,
    round_sizes,
    traffic,
    traffic_changes,
)
from learned_aggregation.build.rule import (
    aggregator_options,
    card_strength,
    learned_theta,
    make_aggregator,
    rate_name,
    rates_of,
    theta_settings,
)
from learned_aggregation.build.trained import completed, model_ranges, tensor_sizes, trained_on, used_with

__all__ = [
    "Loader",
    "MetaTraining",
    "TaskData",
    "aggregator_options",
    "card_strength",
    "completed",
    "data_options",
    "examples_note",
    "fastest_chunk",
    "frozen_changes",
    "learned_theta",
    "load_task",
    "make_aggregator",
    "make_local_training",
    "make_parts",
    "meta_mesh",
    "meta_test",
    "meta_training",
    "model_ranges",
    "rate_name",
    "rates_of",
    "round_sizes",
    "tensor_sizes",
    "theta_settings",
    "traffic",
    "traffic_changes",
    "train_data",
    "trained_on",
    "used_with",
]
