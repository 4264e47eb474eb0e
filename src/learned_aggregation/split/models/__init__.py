"""The registry of models that can be cut: one file for each family, one line here."""

from learned_aggregation.registry import Registry

_HERE = "learned_aggregation.split.models"

SPLIT_MODELS = Registry("split model", {name: f"{_HERE}.{name}:halves" for name in ("vit", "transformer")})
"""family -> (the whole flax module, its data set, split_layer) -> split.model.Halves."""
