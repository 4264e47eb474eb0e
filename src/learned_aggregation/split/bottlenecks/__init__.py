"""The registry of bottlenecks: an encoder and a decoder at the cut, one file each, one line here.

A registered function takes (cut, latent_dim) and returns a `base.Bottleneck`.
"""

from learned_aggregation.registry import Registry

_HERE = "learned_aggregation.split.bottlenecks"

BOTTLENECKS = Registry(
    "bottleneck",
    {name: f"{_HERE}.{name}:{name}" for name in ("identity", "linear", "mlp1", "mlp2", "mlp3", "conv")},
)
"""name -> (split.model.Cut, latent_dim) -> split.bottlenecks.base.Bottleneck."""
