"""Encoders from images without labels: masks, targets, decoders, freezing and probes."""
