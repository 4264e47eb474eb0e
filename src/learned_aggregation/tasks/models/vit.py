"""`vit_p{patch}_h{hidden}_m{mlp}_nh{heads}_nl{layers}`: vision transformers."""

from typing import cast

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array

from learned_aggregation.errors import UserError
from learned_aggregation.tasks.names import parse_sizes
from learned_aggregation.tasks.products import product
from learned_aggregation.tasks.transformer_layers import Block, Layers


class VisionTransformer(nn.Module):
    """Patches, a class token, learned positions, pre-norm blocks; the class token's output is classified.

    An image whose side is no multiple of the patch is padded with zeros, so an image smaller than the patch is
    one patch. Parameters: (c p^2 + 1) h + h + (n + 1) h + L (4 h^2 + 2 h m + 9 h + m) + 2 h + (h + 1) C for n
    patches of c channels; DeiT-tiny has 5,717,416 at 224 pixels and 1000 classes.

    References:
      Dosovitskiy et al., 2021, arXiv:2010.11929; initial values as in google-research/vision_transformer.
    """

    patch: int
    hidden: int
    mlp: int
    heads: int
    layers: int
    num_classes: int
    remat: bool = False

    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.Dense(self.hidden, dot_general=product, name="embed")(cut_patches(x, self.patch))
        token = self.param("class_token", nn.initializers.zeros, (1, 1, self.hidden))
        x = jnp.concatenate([jnp.broadcast_to(token, (x.shape[0], 1, self.hidden)), x], axis=1)
        x = x + self.param("positions", nn.initializers.normal(0.02), (1, x.shape[1], self.hidden))
        x = cast(Array, Layers(self.make_block, self.layers, self.remat, name="layers")(x))
        first = nn.LayerNorm(name="norm")(x[:, 0])
        return nn.Dense(
            self.num_classes, kernel_init=nn.initializers.zeros, dot_general=product, name="head"
        )(first)

    @nn.nowrap
    def make_block(self) -> Block:
        """One block, without a parent."""
        return Block(
            heads=self.heads,
            head_size=self.hidden // self.heads,
            mlp=self.mlp,
            causal=False,
            kernel_init=nn.initializers.xavier_uniform(),
            parent=None,
        )


def cut_patches(images: Array, patch: int) -> Array:
    """[B, h, w, c] -> [B, n, patch * patch * c], row by row."""
    batch, height, width, channels = images.shape
    rows, columns = -(-height // patch), -(-width // patch)
    padding = ((0, 0), (0, rows * patch - height), (0, columns * patch - width), (0, 0))
    blocks = jnp.pad(images, padding).reshape(batch, rows, patch, columns, patch, channels)
    return blocks.swapaxes(2, 3).reshape(batch, rows * columns, patch * patch * channels)


def vit(arguments: str, num_classes: int) -> VisionTransformer:
    """`vit_p16_h128_m512_nh4_nl10`: patches of 16, hidden 128, MLPs of 512, 4 heads, 10 layers."""
    patch, hidden, mlp, heads, layers = parse_sizes("vit", arguments, "_p16_h128_m512_nh4_nl10")
    if hidden % heads:
        raise UserError(
            f"model {'vit' + arguments!r}: expected a number of heads that divides the hidden size {hidden}, "
            f"got {heads}. Change nh or h."
        )
    return VisionTransformer(patch, hidden, mlp, heads, layers, num_classes)
