"""flax.linen models, one family a file; sizes come from the name."""
