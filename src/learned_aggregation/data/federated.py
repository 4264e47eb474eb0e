"""From a split on the host to federated data on the device."""

import jax
import jax.numpy as jnp
import numpy as np

from learned_aggregation.types import FederatedData, Split


def to_federated(split: Split, rows: list[np.ndarray]) -> FederatedData:
    """Puts a split and its division over clients on the default device.

    Args:
      split: N examples.
      rows: the example ids of each of C clients, none of them empty.
    Returns:
      FederatedData whose rows, int32 [C, M], repeat each client's ids cyclically up to the largest client's
      M = max sizes; sizes, int32 [C], are the true ones.
    """
    longest = max(len(ids) for ids in rows)
    padded = np.stack([np.resize(ids, longest) for ids in rows]).astype(np.int32)
    sizes = np.array([len(ids) for ids in rows], np.int32)
    return FederatedData(jax.tree.map(jnp.asarray, split.examples), jnp.asarray(padded), jnp.asarray(sizes))
