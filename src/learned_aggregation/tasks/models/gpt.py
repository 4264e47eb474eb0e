"""`gpt_h{hidden}_m{mlp}_nh{heads}_nl{layers}`: decoder-only transformers over tokens, with positions."""

import functools

from flax import linen as nn

from learned_aggregation.errors import UserError
from learned_aggregation.tasks.names import parse_sizes
from learned_aggregation.tasks.products import product
from learned_aggregation.tasks.transformer_layers import Block, Layers

DEVIATION = 0.02


class GPT(nn.Module):
    """Token embedding plus learned positions, causal pre-norm blocks, layer norm, linear output: [B, S] -> [B, S, V].

    As `transformer`, but that it knows where a token stands, which character models need to learn fast; heads
    share the width. Parameters: (2 V + S) h + V + 2 h + L (4 h^2 + 2 h m + 9 h + m).

    References:
      Radford et al., "Language Models are Unsupervised Multitask Learners", 2019 (GPT-2; its initial values). The
      output has weights of its own.
    """

    hidden: int
    mlp: int
    heads: int
    layers: int
    vocabulary: int
    remat: bool = False

    @nn.compact
    def __call__(self, tokens, train: bool):
        normal = nn.initializers.normal(DEVIATION)
        block = functools.partial(
            Block,
            heads=self.heads,
            head_size=self.hidden // self.heads,
            mlp=self.mlp,
            causal=True,
            kernel_init=normal,
            parent=None,
        )
        x = nn.Embed(self.vocabulary, self.hidden, embedding_init=normal, name="embed")(tokens)
        x = x + self.param("positions", normal, (1, tokens.shape[1], self.hidden))
        x = Layers(block, self.layers, self.remat, name="layers")(x)
        head = nn.Dense(self.vocabulary, kernel_init=normal, dot_general=product, name="head")
        return head(nn.LayerNorm(name="norm")(x))


def gpt(arguments: str, num_classes: int) -> GPT:
    """`gpt_h64_m256_nh2_nl2`: width 64, MLPs of 256, 2 heads, 2 layers."""
    hidden, mlp, heads, layers = parse_sizes("gpt", arguments, "_h64_m256_nh2_nl2")
    if hidden % heads:
        raise UserError(
            f"model {'gpt' + arguments!r}: expected a number of heads that divides the hidden size {hidden}, "
            f"got {heads}. Change nh or h."
        )
    return GPT(hidden, mlp, heads, layers, num_classes)
