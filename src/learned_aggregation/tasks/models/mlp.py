"""`mlp{W}x{W}...` and `mlp{W}_pow{D}`: multilayer perceptrons."""

from flax import linen as nn

from learned_aggregation.tasks.names import parse_widths


class MLP(nn.Module):
    """Flattened input, hidden layers with ReLU, linear output."""

    widths: tuple[int, ...]
    num_classes: int

    @nn.compact
    def __call__(self, x, train: bool):
        x = x.reshape(x.shape[0], -1)
        for width in self.widths:
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(self.num_classes)(x)


def mlp(arguments: str, num_classes: int) -> MLP:
    """`mlp128x64`: hidden layers of 128 and 64; `mlp128_pow6`: six of 128."""
    return MLP(parse_widths("mlp", arguments), num_classes)
