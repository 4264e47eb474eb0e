"""Compressors."""

from learned_aggregation.registry import Registry

COMPRESSORS = Registry("compressor", {"none": "learned_aggregation.federated.compressors.none:none"})


def get_compressor(name, **options):
    return COMPRESSORS[name](**options)
