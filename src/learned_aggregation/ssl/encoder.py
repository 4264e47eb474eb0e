"""The encoder: a vision transformer of the package on the visible patches, with the output of each of its blocks."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_aggregation.errors import UserError
from learned_aggregation.ssl.blocks import blocks, dense, init_block, init_dense, init_norm, norm
from learned_aggregation.ssl.masks import Mask, cut_patches, take_patches
from learned_aggregation.ssl.positions import grid_positions
from learned_aggregation.tasks.models.vit import VisionTransformer
from learned_aggregation.types import Key, Params

ENCODER = ("embed", "class_token", "positions", "layers", "norm")
"""The parameters of an encoder by name, the same as a `VisionTransformer`'s without its head."""


class Encoder(NamedTuple):
    """The sizes of a vision transformer on images of one size."""

    patch: int
    hidden: int
    mlp: int
    heads: int
    layers: int
    rows: int
    columns: int
    channels: int

    @property
    def patches(self) -> int:
        """N, the patches of an image."""
        return self.rows * self.columns


def encoder_of(name: str, model: Any, image_shape: tuple[int, int, int]) -> Encoder:
    """The encoder that a task's model is.

    Raises:
      UserError: a model that is no vision transformer, an image side that its patch does not divide.
    """
    if not isinstance(model, VisionTransformer):
        raise UserError(
            f"task {name!r}: expected a vision transformer for images without labels, got another model. "
            "Name one such as vit_p4_h64_m128_nh4_nl6_glyphsrgb_32."
        )
    height, width, channels = image_shape
    if height % model.patch or width % model.patch:
        raise UserError(
            f"task {name!r}: expected a patch that divides the sides {height} and {width} of the images, "
            f"got {model.patch}. Choose another p or another size."
        )
    sizes = (model.patch, model.hidden, model.mlp, model.heads, model.layers)
    return Encoder(*sizes, height // model.patch, width // model.patch, channels)


def init_encoder(key: Key, sizes: Encoder) -> Params:
    """Xavier-uniform weights; the positions start as sines and cosines of the grid, the class token's as 0."""
    embed_key, *keys = jax.random.split(key, sizes.layers + 1)
    grid = grid_positions(sizes.rows, sizes.columns, sizes.hidden)
    return {
        "embed": init_dense(embed_key, sizes.patch**2 * sizes.channels, sizes.hidden),
        "class_token": jnp.zeros((1, 1, sizes.hidden)),
        "positions": jnp.pad(jnp.asarray(grid), ((1, 0), (0, 0)))[None],
        "layers": {f"layer_{i}": init_block(k, sizes.hidden, sizes.mlp) for i, k in enumerate(keys)},
        "norm": init_norm(sizes.hidden),
    }


def embed(params: Params, sizes: Encoder, images: Float[Array, "B h w c"]) -> Float[Array, "B 1+N D"]:
    """The class token, then the patches, each with its position."""
    patches = dense(params["embed"], cut_patches(images, sizes.patch))
    token = jnp.broadcast_to(params["class_token"], (len(images), 1, sizes.hidden))
    return jnp.concatenate([token, patches], axis=1) + params["positions"]


def keep_visible(tokens: Float[Array, "B 1+N D"], mask: Mask) -> Float[Array, "B 1+V D"]:
    """The class token and the visible patches."""
    return jnp.concatenate([tokens[:, :1], take_patches(tokens[:, 1:], mask.visible)], axis=1)


def run_blocks(
    params: Params, sizes: Encoder, tokens: Float[Array, "B S D"], first: int, last: int
) -> list[Float[Array, "B S D"]]:
    """The outputs of the blocks first, ..., last - 1."""
    layers = [params["layers"][f"layer_{i}"] for i in range(first, last)]
    return blocks(layers, tokens, sizes.heads)


def encode(
    params: Params, sizes: Encoder, images: Float[Array, "B h w c"], mask: Mask | None = None
) -> list[Float[Array, "B S D"]]:
    """The output of each block; with a mask the visible patches only go through them."""
    tokens = embed(params, sizes, images)
    return run_blocks(params, sizes, tokens if mask is None else keep_visible(tokens, mask), 0, sizes.layers)


def features(params: Params, sizes: Encoder, images: Float[Array, "B h w c"]) -> Float[Array, "B D"]:
    """The mean over the patches of the last block's normalised output, of the whole image."""
    last = encode(params, sizes, images)[-1]
    return jnp.mean(norm(params["norm"], last[:, 1:]), axis=1)
