"""`transformer_h{hidden}_m{mlp}_nh{heads}_nl{layers}`: decoder-only transformers over tokens."""

from flax import linen as nn

from learned_aggregation.tasks.names import parse_sizes
from learned_aggregation.tasks.products import product
from learned_aggregation.tasks.transformer_layers import Block, Layers

HEAD_SIZE = 32


class Transformer(nn.Module):
    """Token embedding, causal pre-norm blocks, layer norm, linear output: tokens [B, S] -> logits [B, S, V].

    As published: heads of 32 dimensions whatever the width, no positions but the causal mask, an output of its
    own. Parameters: 2 V h + V + 2 h + L (128 a h + 3 * 32 a + 2 h m + m + 6 h) with a heads.

    References:
      google/learned_optimization, tasks/transformer.py (the LM1B tasks of Metz et al., 2022, arXiv:2211.09760).
    """

    hidden: int
    mlp: int
    heads: int
    layers: int
    vocabulary: int
    remat: bool = False

    @nn.compact
    def __call__(self, tokens, train: bool):
        embedding_init = nn.initializers.truncated_normal(1.0)
        x = nn.Embed(self.vocabulary, self.hidden, embedding_init=embedding_init, name="embed")(tokens)
        x = Layers(self.make_block, self.layers, self.remat, name="layers")(x)
        return nn.Dense(self.vocabulary, kernel_init=_fan_in(1.0), dot_general=product, name="head")(
            nn.LayerNorm(name="norm")(x)
        )

    @nn.nowrap
    def make_block(self) -> Block:
        """One block, without a parent."""
        return Block(
            heads=self.heads,
            head_size=HEAD_SIZE,
            mlp=self.mlp,
            causal=True,
            kernel_init=_fan_in(2.0 / self.layers),
            parent=None,
        )


def _fan_in(scale: float):
    return nn.initializers.variance_scaling(scale, "fan_in", "truncated_normal")


def transformer(arguments: str, num_classes: int) -> Transformer:
    """`transformer_h32_m128_nh4_nl2`: width 32, MLPs of 128, 4 heads, 2 layers."""
    hidden, mlp, heads, layers = parse_sizes("transformer", arguments, "_h32_m128_nh4_nl2")
    return Transformer(hidden, mlp, heads, layers, num_classes)
