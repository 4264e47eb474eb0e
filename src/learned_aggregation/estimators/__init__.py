"""The registry of meta-gradient estimators: one file each, one line here."""

from learned_aggregation.registry import Registry

ESTIMATORS = Registry("estimator", {"pes": "learned_aggregation.estimators.pes:pes"})
"""name -> (problem, schedule: EpisodeSchedule, std) -> GradientEstimator."""
