"""Generators on clients: what a client knew survives its leaving. The registry of conditional generators."""

from learned_aggregation.registry import Registry

_HERE = "learned_aggregation.generators"

GENERATORS = Registry(
    "generator_type",
    {
        "vae": f"{_HERE}.vae:ConditionedVAEGenerator",
        "gan": f"{_HERE}.gan:ConditionedGANGenerator",
        "gaussian": f"{_HERE}.gaussian:ClassGaussian",
    },
)
"""gaussian is the control: a Gaussian around each class's mean, which any generator has to be worth more than."""
