"""`conv`: a convolution of stride 2, which merges 2 x 2 neighbouring patches into one latent."""

from typing import cast

from flax import linen as nn
from jaxtyping import Array

from learned_aggregation.errors import UserError
from learned_aggregation.split.bottlenecks.base import Bottleneck, check_latent_dim, from_modules
from learned_aggregation.split.model import Cut


class Down(nn.Module):
    """[B, rows * columns, d] -> [B, ceil(rows / 2) * ceil(columns / 2), z]."""

    grid: tuple[int, int]
    outputs: int

    @nn.compact
    def __call__(self, x):
        x = x.reshape(x.shape[0], *self.grid, x.shape[-1])
        x = nn.Conv(self.outputs, (3, 3), strides=2)(x)
        return x.reshape(x.shape[0], -1, self.outputs)


class Up(nn.Module):
    """The way back, by a transposed convolution; what is beyond an odd grid is cut off."""

    grid: tuple[int, int]
    outputs: int

    @nn.compact
    def __call__(self, x):
        rows, columns = self.grid
        x = x.reshape(x.shape[0], -(-rows // 2), -(-columns // 2), x.shape[-1])
        x = cast(Array, nn.ConvTranspose(self.outputs, (4, 4), strides=(2, 2))(x))[:, :rows, :columns]
        return x.reshape(x.shape[0], rows * columns, self.outputs)


def conv(cut: Cut, latent_dim: int) -> Bottleneck:
    """A 3 x 3 convolution of stride 2 to z channels; back by a 4 x 4 transposed one.

    Raises:
      UserError: a latent dimension below 1; text, whose tokens must not see later ones.
    """
    check_latent_dim(latent_dim)
    if cut.grid is None:
        raise UserError(
            "bottleneck: expected one that keeps tokens apart (linear, mlp1, mlp2, mlp3) for text, got 'conv', which "
            "would let a token see the next one. Use mlp1."
        )
    return from_modules(Down(cut.grid, latent_dim), Up(cut.grid, cut.width), cut)
