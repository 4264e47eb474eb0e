"""The probe `label_propagation`: the first frame's masks, carried through a clip by the likeness of features."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

QUERIES = 512
"""The most places of a frame whose affinities are in memory at a time."""


class Propagation(NamedTuple):
    """How labels are carried.

    top_k: the most alike places of the context that a place takes its label from.
    radius: in patches (of the feature grid); a place looks no further than this, in x and in y.
    temperature: of the softmax over cosine similarities.
    queue: m, the last frames, with their predicted soft maps, that are the context besides the first frame.
    centred: whether a frame's mean feature is taken off its features first.
    """

    top_k: int = 7
    radius: float = 6.0
    temperature: float = 0.1
    queue: int = 5
    centred: bool = True


def propagate(
    features: Float[Array, "T h w D"], first: Float[Array, "h w L"], how: Propagation
) -> Float[Array, "T h w L"]:
    """Soft labels of every frame from those of the first.

    A place of frame t has cosine similarity s to each place within the radius in the context: frame 0 and the last m
    frames before t. Its label is sum_i softmax_i(s_i / temperature) label_i over the top_k most alike of them, the
    labels being frame 0's true ones and the PREDICTED soft maps of the others. Frames are one scan.

    Args:
      first: one-hot, or shares of a patch; L labels, the background being one of them.
      how: top_k and queue are static; radius and temperature may be traced.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> features = jnp.broadcast_to(jax.random.normal(jax.random.key(0), (3, 3, 8)), (4, 3, 3, 8))
      >>> first = jax.nn.one_hot(jnp.arange(9).reshape(3, 3) % 2, 2)
      >>> found = propagate(features, first, Propagation(top_k=1))
      >>> bool(jnp.allclose(found, first))  # frames that are all alike keep their labels
      True

    References:
      Gupta et al., "Siamese Masked Autoencoders", NeurIPS 2023, arXiv:2305.14344, section 4.1; Jabri et al., 2020,
      arXiv:2006.14613.
    """
    frames, height, width, _ = features.shape
    places = height * width
    tokens = _unit(features.reshape(frames, places, -1), how.centred)
    labels = first.reshape(places, -1)
    near = _near(height, width, how.radius)
    slots = max(how.queue, 1)

    def step(carry: tuple[Array, Array, Array], query: Array):
        kept, kept_labels, filled = carry
        keys = jnp.concatenate([tokens[:1], kept])
        values = jnp.concatenate([labels[None], kept_labels])
        there = jnp.concatenate([jnp.ones(1, bool), filled])
        found = _vote(query, keys, values, there, near, how)
        if how.queue:
            kept = jnp.roll(kept, 1, 0).at[0].set(query)
            kept_labels = jnp.roll(kept_labels, 1, 0).at[0].set(found)
            filled = jnp.roll(filled, 1).at[0].set(True)
        return (kept, kept_labels, filled), found

    empty = (
        jnp.zeros((slots, *tokens.shape[1:]), tokens.dtype),
        jnp.zeros((slots, *labels.shape), labels.dtype),
        jnp.zeros(slots, bool),
    )
    _, found = jax.lax.scan(step, empty, tokens[1:])
    return jnp.concatenate([labels[None], found]).reshape(frames, height, width, -1)


def _unit(tokens: Array, centred: bool) -> Array:
    if centred:
        tokens = tokens - jnp.mean(tokens, axis=1, keepdims=True)
    return tokens / jnp.maximum(jnp.linalg.norm(tokens, axis=-1, keepdims=True), 1e-6)


def _near(height: int, width: int, radius: Float[Array, ""] | float) -> Array:
    """Which places are within the radius of which, [places, places]."""
    y, x = np.divmod(np.arange(height * width), width)
    apart = np.maximum(np.abs(y[:, None] - y), np.abs(x[:, None] - x))
    return jnp.asarray(apart) <= radius


def _vote(query: Array, keys: Array, values: Array, there: Array, near: Array, how: Propagation) -> Array:
    """Labels of a frame's places [P, L] from keys [S, P, D], their labels [S, P, L] and which of the S there are."""
    context = keys.reshape(-1, keys.shape[-1])
    labels = values.reshape(-1, values.shape[-1])

    def one(of: tuple[Array, Array]) -> Array:
        token, within = of
        seen = (there[:, None] & within[None]).reshape(-1)
        alike = jnp.where(seen, context @ token, -jnp.inf)
        best, which = jax.lax.top_k(alike, how.top_k)
        return jax.nn.softmax(best / how.temperature) @ labels[which]

    return jax.lax.map(one, (query, near), batch_size=min(QUERIES, len(query)))


def patch_labels(mask: Int[Array, "H W"], labels: int, height: int, width: int) -> Float[Array, "h w L"]:
    """The share of each label in each place of a grid: exact where the grid divides the mask, linear otherwise."""
    one_hot = jax.nn.one_hot(mask, labels)
    rows, columns = mask.shape
    if rows % height == 0 and columns % width == 0:
        blocks = one_hot.reshape(height, rows // height, width, columns // width, labels)
        return blocks.mean((1, 3))
    return jax.image.resize(one_hot, (height, width, labels), "linear")


def pixel_masks(soft: Float[Array, "T h w L"], height: int, width: int) -> Int[Array, "T H W"]:
    """The likeliest label of each pixel: soft maps made larger linearly, then the largest."""
    large = jax.image.resize(soft, (soft.shape[0], height, width, soft.shape[-1]), "linear")
    return jnp.argmax(large, axis=-1).astype(jnp.uint8)


def propagated_masks(
    features: Float[Array, "T h w D"], mask: Int[Array, "H W"], labels: int, how: Propagation
) -> Int[Array, "T H W"]:
    """Predicted masks of every frame of a clip from the first frame's, uint8; the first frame's stay as they are.

    Args:
      labels: L, the objects and the background.
    """
    height, width = features.shape[1:3]
    soft = propagate(features, patch_labels(mask, labels, height, width), how)
    return pixel_masks(soft, *mask.shape).at[0].set(mask.astype(jnp.uint8))
