"""k nearest neighbours on the features, without training."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_aggregation.ssl.probes import Probed
from learned_aggregation.ssl.probes.linear import accuracy
from learned_aggregation.types import Key

K = 20
TEMPERATURE = 0.07


def knn(probed: Probed, key: Key) -> Float[Array, ""]:
    """20 neighbours by cosine similarity among all training examples, each voting with exp(similarity / .07).

    Where there are fewer training examples, all of them vote.

    Features are less the training examples' mean, as those of any encoder have a large common part.

    References:
      Wu et al., 2018, arXiv:1805.01978, section 3.4.
    """
    train, _, test = probed.features
    labels, mean = probed.data.train.labels, jnp.mean(train, axis=0)
    known, asked = (_unit(part - mean) for part in (train, test))
    similarity, rows = jax.lax.top_k(asked @ known.T, min(K, len(known)))
    votes = jnp.exp((similarity - 1.0) / TEMPERATURE)[..., None]
    of_class = jax.nn.one_hot(labels[rows], probed.sizes.num_classes)
    return accuracy(jnp.sum(votes * of_class, axis=1), probed.data.test.labels)


def _unit(x: Float[Array, "N D"]) -> Array:
    return x * jax.lax.rsqrt(jnp.sum(x**2, axis=-1, keepdims=True) + 1e-12)
