"""flax.linen models, one family per file; sizes come from the name."""
