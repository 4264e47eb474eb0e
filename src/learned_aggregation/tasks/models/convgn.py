"""`convgn{C}x{C}...`: convolutional networks with GroupNorm, whose layers each halve the image."""

import math

from flax import linen as nn

from learned_aggregation.tasks.convolution import convolve
from learned_aggregation.tasks.names import parse_widths

GROUP = 8
"""Channels that are normalised together, or their greatest divisor of it."""


class ConvGroupNorm(nn.Module):
    """3x3 convolutions of stride 2, each with GroupNorm and ReLU; linear output of all that is left of the image.

    GroupNorm has no running statistics, which differ between clients whose data differ.

    References:
      Wu & He, "Group Normalization", 2018, arXiv:1803.08494; Hsieh et al., "The Non-IID Data Quagmire of
      Decentralized Machine Learning", 2020, arXiv:1910.00189 (why not BatchNorm).
    """

    channels: tuple[int, ...]
    num_classes: int

    @nn.compact
    def __call__(self, x, train: bool):
        for channels in self.channels:
            x = nn.Conv(channels, (3, 3), (2, 2), use_bias=False, conv_general_dilated=convolve)(x)
            x = nn.relu(nn.GroupNorm(num_groups=None, group_size=math.gcd(GROUP, channels))(x))
        return nn.Dense(self.num_classes, name="head")(x.reshape(x.shape[0], -1))


def convgn(arguments: str, num_classes: int) -> ConvGroupNorm:
    """`convgn16x32x64`: three layers of 16, 32 and 64 channels."""
    return ConvGroupNorm(parse_widths("convgn", arguments), num_classes)
