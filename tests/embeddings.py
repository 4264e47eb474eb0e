"""Small embeddings that the tests of generators share."""

import jax.numpy as jnp
import numpy as np

from learned_aggregation.generators import GENERATORS

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


SIZES = {"input_dim": D, "visual_dim": V, "hidden_dim": 32, "latent_dim": 3, "learning_rate": 3e-3}


def made(kind="vae", **changes):
    sizes = {"input_dim": D, "num_classes": 2} if kind == "gaussian" else SIZES | changes
    return GENERATORS[kind](**sizes)


def batches(steps=8, size=32):
    audio, clip, label = data()
    one = {"audio": audio, "clip": clip[label], "label": label}
    return {name: jnp.asarray(leaf.reshape(steps, size, *leaf.shape[1:])) for name, leaf in one.items()}
