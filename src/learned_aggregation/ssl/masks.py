"""Patches of images, and the random set of them that an encoder sees."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from learned_aggregation.errors import UserError
from learned_aggregation.tasks.models.vit import cut_patches
from learned_aggregation.types import Key

__all__ = [
    "Mask",
    "cut_patches",
    "draw_mask",
    "join_patches",
    "restore_order",
    "take_patches",
    "visible_count",
]


class Mask(NamedTuple):
    """Which patches of each example are seen.

    visible: the places of the V patches that are seen, in the order in which they were drawn.
    restore: where each of the N patches stands in [the visible ones, then the hidden ones].
    hidden: whether a patch is hidden.
    """

    visible: Int[Array, "B V"]
    restore: Int[Array, "B N"]
    hidden: Bool[Array, "B N"]


def visible_count(patches: int, ratio: float) -> int:
    """How many of the patches are seen where a share of `ratio` is hidden: int(patches (1 - ratio)).

    Raises:
      UserError: a ratio that hides no patch, or all of them.

    Example:
      >>> visible_count(64, 0.75), visible_count(64, 0.95)
      (16, 3)
    """
    # Rounded first: 1 - .9 is less than .1, and 100 patches would leave 9.
    seen = int(round(patches * (1.0 - ratio), 6))
    if not 0 < seen < patches:
        raise UserError(
            f"mask ratio: expected one that hides some of {patches} patches and shows some, got {ratio!r}, which shows "
            f"{seen}. Choose one between {1 / patches:.3g} and {1 - 1 / patches:.3g}, or smaller patches."
        )
    return seen


def draw_mask(key: Key, batch: int, patches: int, ratio: float) -> Mask:
    """A set of int(N (1 - ratio)) visible patches for each example, uniform over all such sets, drawn on the device.

    The first V places of a random order of the patches, as He et al., 2022, arXiv:2111.06377, draw it.

    Raises:
      UserError: see `visible_count`.

    Example:
      >>> import jax
      >>> mask = draw_mask(jax.random.key(0), 2, 16, 0.75)
      >>> mask.visible.shape, mask.hidden.sum(1).tolist()
      ((2, 4), [12, 12])
    """
    seen = visible_count(patches, ratio)
    order = jnp.argsort(jax.random.uniform(key, (batch, patches)), axis=1)
    restore = jnp.argsort(order, axis=1)
    return Mask(order[:, :seen], restore, restore >= seen)


def take_patches(tokens: Float[Array, "B N D"], places: Int[Array, "B V"]) -> Float[Array, "B V D"]:
    """The tokens at these places of each example, in the order of `places`."""
    return jnp.take_along_axis(tokens, places[..., None], axis=1)


def restore_order(
    tokens: Float[Array, "B V D"], fill: Float[Array, "*ones D"], mask: Mask
) -> Float[Array, "B N D"]:
    """All N patches in their places: the visible ones' tokens, and `fill` (a mask token) for each hidden one.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> mask = draw_mask(jax.random.key(0), 1, 4, 0.5)
      >>> seen = take_patches(jnp.arange(4.0).reshape(1, 4, 1), mask.visible)
      >>> whole = restore_order(seen, jnp.full((1, 1, 1), -1.0), mask)
      >>> bool(jnp.all(jnp.where(mask.hidden, whole[..., 0] == -1, whole[..., 0] == jnp.arange(4))))
      True
    """
    batch, patches = mask.restore.shape
    width = tokens.shape[-1]
    filled = jnp.broadcast_to(fill.reshape(1, 1, width), (batch, patches - tokens.shape[1], width))
    return take_patches(jnp.concatenate([tokens, filled.astype(tokens.dtype)], axis=1), mask.restore)


def join_patches(
    patches: Float[Array, "B N d"], rows: int, columns: int, patch: int
) -> Float[Array, "B h w c"]:
    """The image of `cut_patches`' patches: [B, rows columns, patch^2 c] -> [B, rows patch, columns patch, c].

    Example:
      >>> import jax.numpy as jnp
      >>> image = jnp.arange(48.0).reshape(1, 4, 4, 3)
      >>> bool(jnp.all(join_patches(cut_patches(image, 2), 2, 2, 2) == image))
      True
    """
    batch, _, size = patches.shape
    blocks = patches.reshape(batch, rows, columns, patch, patch, size // patch**2).swapaxes(2, 3)
    return blocks.reshape(batch, rows * patch, columns * patch, size // patch**2)
