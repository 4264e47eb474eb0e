"""The siamese masked autoencoder as pure functions: a shared encoder, and a decoder that looks at the first frame."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_aggregation.ssl.blocks import (
    blocks,
    cross_block,
    dense,
    init_block,
    init_cross_block,
    init_dense,
    init_norm,
    norm,
)
from learned_aggregation.ssl.masks import Mask, cut_patches, restore_order, take_patches
from learned_aggregation.ssl.positions import grid_positions
from learned_aggregation.tasks.names import parse_sizes
from learned_aggregation.types import Key, Params


class SiameseSizes(NamedTuple):
    """patch; width, MLP, heads and blocks of the encoder; the same of the decoder, whose MLPs are 4 times its width."""

    patch: int
    hidden: int
    mlp: int
    heads: int
    layers: int
    decoder_hidden: int
    decoder_heads: int
    decoder_layers: int

    def init(self, key: Key, video: Float[Array, "B T h w c"], train: bool) -> dict[str, Params]:
        """What a flax module's gives, for lists of tasks: {"params": ...}."""
        return {"params": init_siamese(key, self, video.shape[-1])}


def siammae(arguments: str, num_classes: int) -> SiameseSizes:
    """`siammae_p16_h384_m1536_nh6_nl12_dh256_dnh8_dnl4`: the sizes in a task's name, in the order of SiameseSizes."""
    return SiameseSizes(
        *parse_sizes("siammae", arguments, "_p16_h384_m1536_nh6_nl12_dh256_dnh8_dnl4"),
    )


def init_siamese(key: Key, sizes: SiameseSizes, channels: int) -> Params:
    """{"encoder": {"embed", "layer_0", ..., "norm"},
    "decoder": {"embed", "memory_norm", "mask", "layer_0", ..., "norm", "head"}}; there is no class token."""
    keys = iter(jax.random.split(key, sizes.layers + sizes.decoder_layers + 4))
    pixels = sizes.patch**2 * channels
    width = sizes.decoder_hidden
    encoder = {
        "embed": init_dense(next(keys), pixels, sizes.hidden),
        **{f"layer_{i}": init_block(next(keys), sizes.hidden, sizes.mlp) for i in range(sizes.layers)},
        "norm": init_norm(sizes.hidden),
    }
    decoder = {
        "embed": init_dense(next(keys), sizes.hidden, width),
        "memory_norm": init_norm(width),
        "mask": 0.02 * jax.random.normal(next(keys), (width,)),
        **{f"layer_{i}": init_cross_block(next(keys), width, 4 * width) for i in range(sizes.decoder_layers)},
        "norm": init_norm(width),
        "head": init_dense(next(keys), width, pixels),
    }
    return {"encoder": encoder, "decoder": decoder}


def _layers(params: Params) -> list[Params]:
    return [params[f"layer_{i}"] for i in range(sum(name.startswith("layer_") for name in params))]


def embed(params: Params, images: Float[Array, "B h w c"], sizes: SiameseSizes) -> Float[Array, "B N D"]:
    """Patches through the encoder's first layer, with their positions added."""
    tokens = dense(params["encoder"]["embed"], cut_patches(images, sizes.patch))
    return tokens + grid_positions(*grid_of(images, sizes), sizes.hidden)


def encode(params: Params, tokens: Float[Array, "B S D"], sizes: SiameseSizes) -> Float[Array, "B S D"]:
    """Embedded patches, all of them or the visible ones, through the encoder and its last norm."""
    encoder = params["encoder"]
    return norm(encoder["norm"], blocks(_layers(encoder), tokens, sizes.heads)[-1])


def encoder_layers(
    params: Params, images: Float[Array, "B h w c"], sizes: SiameseSizes
) -> list[Float[Array, "B N D"]]:
    """What each block of the encoder makes of whole frames; the last one through the last norm."""
    encoder = params["encoder"]
    outputs = blocks(_layers(encoder), embed(params, images, sizes), sizes.heads)
    return [*outputs[:-1], norm(encoder["norm"], outputs[-1])]


def grid_of(images: Float[Array, "B h w c"], sizes: SiameseSizes) -> tuple[int, int]:
    """(rows, columns) of patches."""
    return images.shape[1] // sizes.patch, images.shape[2] // sizes.patch


def memory_of(params: Params, first: Float[Array, "B h w c"], sizes: SiameseSizes) -> Float[Array, "B N d"]:
    """The first frames' tokens as the decoder attends to them."""
    decoder = params["decoder"]
    encoded = encode(params, embed(params, first, sizes), sizes)
    tokens = dense(decoder["embed"], encoded) + grid_positions(*grid_of(first, sizes), sizes.decoder_hidden)
    return norm(decoder["memory_norm"], tokens)


def decoder_tokens(
    params: Params, second: Float[Array, "B h w c"], mask: Mask, sizes: SiameseSizes
) -> Float[Array, "B N d"]:
    """The second frame's visible patches through the encoder and a mask token for each hidden one, in their places."""
    decoder = params["decoder"]
    seen = encode(params, take_patches(embed(params, second, sizes), mask.visible), sizes)
    whole = restore_order(dense(decoder["embed"], seen), decoder["mask"], mask)
    return whole + grid_positions(*grid_of(second, sizes), sizes.decoder_hidden)


def decode(
    params: Params, tokens: Float[Array, "B N d"], memory: Float[Array, "B N d"], sizes: SiameseSizes
) -> Float[Array, "B N p"]:
    """Cross-attention to the first frame, self-attention and an MLP in each block; the pixels of every patch."""
    decoder = params["decoder"]
    for layer in _layers(decoder):
        tokens = cross_block(layer, tokens, memory, sizes.decoder_heads)
    return dense(decoder["head"], norm(decoder["norm"], tokens))


def attention_weights(
    params: Params, tokens: Float[Array, "B N d"], memory: Float[Array, "B N d"], sizes: SiameseSizes
) -> Float[Array, "L B heads N N"]:
    """Where each decoder block's cross-attention looks: [..., a patch of the second frame, a patch of the first]."""
    found = []
    for layer in _layers(params["decoder"]):
        asked = norm(layer["norm_cross"], tokens)
        query, key = (
            dense(layer["cross"][name], of).reshape(*of.shape[:-1], sizes.decoder_heads, -1)
            for name, of in (("query", asked), ("key", memory))
        )
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) * query.shape[-1] ** -0.5
        found.append(jax.nn.softmax(scores, axis=-1))
        tokens = cross_block(layer, tokens, memory, sizes.decoder_heads)
    return jnp.stack(found)


def decoder_layers(
    params: Params, images: Float[Array, "B h w c"], sizes: SiameseSizes
) -> list[Float[Array, "B N d"]]:
    """Features on the decoder's side of whole frames: the memory, its cross-attention keys, and each block's output
    where a frame attends to itself."""
    encoded = encoder_layers(params, images, sizes)[-1]
    tokens = dense(params["decoder"]["embed"], encoded)
    tokens = tokens + grid_positions(*grid_of(images, sizes), sizes.decoder_hidden)
    memory = norm(params["decoder"]["memory_norm"], tokens)
    layers = _layers(params["decoder"])
    found = [memory, *(dense(layer["cross"]["key"], memory) for layer in layers)]
    for layer in layers:
        tokens = cross_block(layer, tokens, memory, sizes.decoder_heads)
        found.append(tokens)
    return found


def reconstruct(
    params: Params,
    memory: Float[Array, "B N d"],
    second: Float[Array, "B h w c"],
    mask: Mask,
    sizes: SiameseSizes,
) -> Float[Array, "B N p"]:
    """The predicted (normalised) pixels of every patch of the second frames, from the first ones' memory and what the
    mask shows of the second."""
    return decode(params, decoder_tokens(params, second, mask, sizes), memory, sizes)
