"""Encoders from images without labels: masks, targets, decoders, fine-tuning and probes."""
