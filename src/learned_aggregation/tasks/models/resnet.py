"""`resnet{18,34,50}` with BatchNorm, `resnet{18,34,50}gn` with GroupNorm."""

import functools
import re
from typing import Any, NamedTuple, cast

import jax.numpy as jnp
from flax import linen as nn

from learned_aggregation.errors import UserError
from learned_aggregation.tasks.convolution import convolve


class _Depth(NamedTuple):
    """blocks: in each of the four stages. bottleneck: 1x1, 3x3, 1x1 instead of 3x3, 3x3."""

    blocks: tuple[int, int, int, int]
    bottleneck: bool


DEPTHS = {
    "18": _Depth((2, 2, 2, 2), False),
    "34": _Depth((3, 4, 6, 3), False),
    "50": _Depth((3, 4, 6, 3), True),
}
GROUPS = 32
Conv = functools.partial(nn.Conv, use_bias=False, conv_general_dilated=convolve)


class Block(nn.Module):
    """relu(x + norm(conv(...))); where the shape changes, x goes through a 1x1 convolution and a norm."""

    channels: int
    stride: int
    bottleneck: bool
    norm: Any

    @nn.compact
    def __call__(self, x):
        stride = (self.stride, self.stride)
        if self.bottleneck:
            h = nn.relu(self.norm()(Conv(self.channels, (1, 1))(x)))
            h = nn.relu(self.norm()(Conv(self.channels, (3, 3), stride)(h)))
            # A bottleneck starts as the identity: its last scale is 0 (Goyal et al., 2017, arXiv:1706.02677).
            h = self.norm(scale_init=nn.initializers.zeros)(Conv(4 * self.channels, (1, 1))(h))
        else:
            h = nn.relu(self.norm()(Conv(self.channels, (3, 3), stride)(x)))
            h = self.norm()(Conv(self.channels, (3, 3))(h))
        if x.shape != h.shape:
            x = self.norm(name="shortcut_norm")(Conv(h.shape[-1], (1, 1), stride, name="shortcut_conv")(x))
        return nn.relu(x + h)


class ResNet(nn.Module):
    """7x7 convolution of stride 2, 3x3 max-pooling of stride 2, four stages of 64..512 channels, linear output.

    `width` is the first stage's number of channels; each stage has twice those of the one before.

    The stem is that of ImageNet at every image size, as in the published 32 and 64-pixel experiments. Running
    statistics (collection "batch_stats"): mean <- 0.9 mean + 0.1 batch mean, and so for the variance.

    References:
      He et al., "Deep Residual Learning for Image Recognition", 2016, arXiv:1512.03385.
      Wu & He, "Group Normalization", 2018, arXiv:1803.08494.
    """

    depth: _Depth
    group_norm: bool
    num_classes: int
    remat: bool = False
    width: int = 64

    @nn.compact
    def __call__(self, x, train: bool):
        norm = (
            functools.partial(nn.GroupNorm, GROUPS, epsilon=1e-5)
            if self.group_norm
            else functools.partial(nn.BatchNorm, not train, momentum=0.9, epsilon=1e-5)
        )
        x = Conv(self.width, (7, 7), (2, 2), name="stem_conv")(x)
        x = nn.max_pool(nn.relu(norm(name="stem_norm")(x)), (3, 3), (2, 2), "SAME")
        block_of = cast(type[Block], nn.remat(Block)) if self.remat else Block
        for stage, blocks in enumerate(self.depth.blocks):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                name = f"stage_{stage}_block_{block}"
                x = block_of(self.width * 2**stage, stride, self.depth.bottleneck, norm, name=name)(x)
        return nn.Dense(self.num_classes, name="head")(jnp.mean(x, axis=(1, 2)))


def resnet(arguments: str, num_classes: int) -> ResNet:
    """`resnet18`, `resnet50gn`."""
    match = re.fullmatch(r"(\d+)(gn)?", arguments)
    if not match or match[1] not in DEPTHS:
        raise UserError(
            f"model {'resnet' + arguments!r}: expected a depth of {', '.join(DEPTHS)} and maybe gn for GroupNorm, "
            f"got {arguments!r}. For example resnet18 or resnet18gn."
        )
    return ResNet(DEPTHS[match[1]], bool(match[2]), num_classes)
