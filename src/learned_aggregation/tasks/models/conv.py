"""`conv{C}x{C}...`: plain convolutional networks."""

from flax import linen as nn

from learned_aggregation.tasks.convolution import convolve
from learned_aggregation.tasks.names import parse_widths


class ConvNet(nn.Module):
    """3x3 convolutions with ReLU (the first of stride 2), mean over the image, linear output.

    Source: the convolutional tasks of Metz et al., 2022, arXiv:2203.11860.
    """

    channels: tuple[int, ...]
    num_classes: int

    @nn.compact
    def __call__(self, x, train: bool):
        for layer, channels in enumerate(self.channels):
            stride = 2 if layer == 0 else 1
            x = nn.relu(nn.Conv(channels, (3, 3), (stride, stride), conv_general_dilated=convolve)(x))
        return nn.Dense(self.num_classes)(x.mean(axis=(1, 2)))


def conv(arguments: str, num_classes: int) -> ConvNet:
    """`conv32x64x64`: three layers of 32, 64 and 64 channels."""
    return ConvNet(parse_widths("conv", arguments), num_classes)
