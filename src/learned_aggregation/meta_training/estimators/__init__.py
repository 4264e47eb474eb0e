"""The registry of meta-gradient estimators: one file each, one line here."""

from learned_aggregation.registry import Registry

ESTIMATORS = Registry(
    "estimator",
    {
        "full_es": "learned_aggregation.meta_training.estimators.full_es:full_es",
        "nres": "learned_aggregation.meta_training.estimators.nres:nres",
        "pes": "learned_aggregation.meta_training.estimators.pes:pes",
        "truncated_backprop": "learned_aggregation.meta_training.estimators.truncated_backprop:truncated_backprop",
    },
)
"""name -> (problem, schedule: EpisodeSchedule, std) -> GradientEstimator."""
