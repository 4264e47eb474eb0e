"""`none`: nothing is compressed."""

import math

import jax

from learned_aggregation.types import Compressor


def none() -> Compressor:
    """The tree itself, 32 bits per number."""

    def bits(params):
        return 32.0 * sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))

    return Compressor(
        lambda params: (), lambda tree, feedback, key: (tree, feedback), lambda message: message, bits
    )
