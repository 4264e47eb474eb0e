"""Features of frames on a grid, of every encoder that the probe compares: what a place of a frame is described by."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_aggregation.errors import UserError
from learned_aggregation.ssl.blocks import blocks, dense, norm
from learned_aggregation.ssl.masks import cut_patches
from learned_aggregation.ssl.siamese import SiameseSizes, decoder_layers, encoder_layers
from learned_aggregation.types import Params

Encode = Callable[[Any, Float[Array, "B h w c"]], Float[Array, "B N D"]]
"""(params, frames as model inputs) -> a feature for each patch, row by row."""


class Feature(NamedTuple):
    """name: in tables. patch: its patches' side in pixels. encode: see Encode. params: what it is called with.

    Models of one size share `encode`, the same object, so that a program that is compiled for one serves them all.
    """

    name: str
    patch: int
    encode: Encode
    params: Any = ()


@functools.cache
def raw_patches(patch: int) -> Feature:
    """The pixels themselves."""
    return Feature(f"raw patches of {patch}", patch, lambda params, images: cut_patches(images, patch))


@functools.cache
def normalised_patches(patch: int) -> Feature:
    """The pixels of a patch less their mean, over their standard deviation."""

    def encode(params: Any, images: Array) -> Array:
        found = cut_patches(images, patch)
        found = found - jnp.mean(found, axis=-1, keepdims=True)
        return found / jnp.sqrt(jnp.mean(found**2, axis=-1, keepdims=True) + 1e-2)

    return Feature(f"normalised patches of {patch}", patch, encode)


def siamese_features(name: str, params: Params, sizes: SiameseSizes) -> list[Feature]:
    """Every block of the encoder, and of the decoder where a frame looks at itself: see `siamese.decoder_layers`."""
    blocks_of_decoder = sizes.decoder_layers
    places = (
        ["memory"]
        + [f"key {i + 1}" for i in range(blocks_of_decoder)]
        + [f"block {i + 1}" for i in range(blocks_of_decoder)]
    )
    encoder = [(f"block {i + 1}", _encoder_layer(sizes, i)) for i in range(sizes.layers)]
    decoder = [(f"decoder {place}", _decoder_layer(sizes, i)) for i, place in enumerate(places)]
    return [Feature(f"{name}, {place}", sizes.patch, encode, params) for place, encode in encoder + decoder]


@functools.cache
def _encoder_layer(sizes: SiameseSizes, index: int) -> Encode:
    return lambda params, images: encoder_layers(params, images, sizes)[index]


@functools.cache
def _decoder_layer(sizes: SiameseSizes, index: int) -> Encode:
    return lambda params, images: decoder_layers(params, images, sizes)[index]


def vit_features(name: str, params: Params, patch: int, heads: int) -> list[Feature]:
    """Every block of one of the package's vision transformers, supervised or not; its class token takes part and is
    left out of the features.

    Args:
      params: of `tasks.models.vit`: embed, class_token, positions, layers, norm.
    """
    layers = range(len(params["layers"]))
    return [Feature(f"{name}, block {i + 1}", patch, _vit_layer(patch, heads, i), params) for i in layers]


@functools.cache
def _vit_layer(patch: int, heads: int, index: int) -> Encode:
    def encode(params: Params, images: Array) -> Array:
        layers = [params["layers"][f"layer_{i}"] for i in range(len(params["layers"]))]
        tokens = dense(params["embed"], cut_patches(images, patch))
        first = jnp.broadcast_to(params["class_token"], (len(images), 1, tokens.shape[-1]))
        tokens = jnp.concatenate([first, tokens], axis=1) + params["positions"]
        outputs = blocks(layers, tokens, heads)
        last = norm(params["norm"], outputs[-1])
        return [*outputs[:-1], last][index][:, 1:]

    return encode


def dense_features(
    feature: Feature, images: Float[Array, "B h w c"], stride: int
) -> Float[Array, "B gh gw D"]:
    """Features on a grid finer than the patches: the frames moved by multiples of the stride, all passes interleaved.

    Args:
      stride: divides the patch; the patch itself is one pass.
    Returns:
      [B, h / stride, w / stride, D]; beyond an edge a frame is continued by its last row or column.
    Raises:
      UserError: a stride that does not divide the patch, frames that the patch does not divide.

    Example:
      >>> import jax.numpy as jnp
      >>> dense_features(raw_patches(4), jnp.zeros((2, 8, 12, 3)), 2).shape
      (2, 4, 6, 48)
    """
    _, height, width, _ = images.shape
    patch = feature.patch
    if patch % stride or height % patch or width % patch:
        raise UserError(
            f"{feature.name}: expected a stride that divides the patch of {patch} pixels, and frames that the patch "
            f"divides, got a stride of {stride} and {height} x {width} pixels. Change the stride or the frames' size."
        )
    return _on_grid(feature.params, images, feature.encode, patch, stride)


@functools.partial(jax.jit, static_argnames=("encode", "patch", "stride"))
def _on_grid(params: Any, images: Array, encode: Encode, patch: int, stride: int) -> Array:
    """One program for all models of one size, whatever they are called."""
    batch, height, width, _ = images.shape
    rows, columns, steps = height // patch, width // patch, patch // stride
    before = (patch - stride) // 2
    padded = jnp.pad(images, ((0, 0), (before, patch), (before, patch), (0, 0)), mode="edge")

    def one(place: Array) -> Array:
        return encode(params, jax.lax.dynamic_slice(padded, (0, place[0], place[1], 0), images.shape))

    places = jnp.array([(y * stride, x * stride) for y in range(steps) for x in range(steps)])
    found = jax.lax.map(one, places).reshape(steps, steps, batch, rows, columns, -1)
    return found.transpose(2, 3, 0, 4, 1, 5).reshape(batch, rows * steps, columns * steps, -1)
