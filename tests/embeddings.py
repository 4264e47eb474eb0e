"""Small embeddings that the tests of generators share."""

import numpy as np

S, D, V = 4, 6, 5
"""Vectors of an embedding, their numbers, those of a condition."""


def data(seed=0, count=256):
    """Two classes around means, with a spread that three factors make."""
    random = np.random.default_rng(seed)
    factors = np.random.default_rng(9)
    means, mixing = factors.standard_normal((2, S * D)), factors.standard_normal((3, S * D))
    clip = factors.standard_normal((2, V)).astype(np.float32)
    label = np.arange(count) % 2
    audio = means[label] + 0.5 * random.standard_normal((count, 3)) @ mixing
    return audio.reshape(count, S, D).astype(np.float32), clip, label.astype(np.int32)
