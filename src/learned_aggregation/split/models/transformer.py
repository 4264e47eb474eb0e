"""A decoder-only transformer over tokens in two halves: embedding and first blocks; the rest."""

from typing import cast

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array

from learned_aggregation.split.model import Cut, Halves
from learned_aggregation.tasks.flax_task import cross_entropy, loss_cap
from learned_aggregation.tasks.models.transformer import Transformer
from learned_aggregation.tasks.objectives.language_modelling import METRICS
from learned_aggregation.tasks.transformer_layers import apply_blocks
from learned_aggregation.types import Batch, Dataset, Metrics, Params


def halves(model: Transformer, dataset: Dataset, split_layer: int) -> Halves:
    """activations [B, S, d], one for each token; an example's metrics are the mean over its S tokens."""
    length = dataset.splits["train"].examples["tokens"].shape[1] - 1
    lower = [f"layer_{i}" for i in range(split_layer)]
    upper = [f"layer_{i}" for i in range(split_layer, model.layers)]

    def client(params: Params, batch: Batch) -> Array:
        tokens = batch["tokens"][:, :-1].astype(jnp.int32)
        x = nn.Embed(model.vocabulary, model.hidden).apply({"params": params["embed"]}, tokens)
        layers = [params["layers"][name] for name in lower]
        return apply_blocks(model.make_block(), layers, cast(Array, x), model.remat)

    def server(params: Params, x: Array) -> Array:
        x = apply_blocks(model.make_block(), [params["layers"][name] for name in upper], x, model.remat)
        normed = nn.LayerNorm().apply({"params": params["norm"]}, x)
        return cast(Array, nn.Dense(model.vocabulary).apply({"params": params["head"]}, normed))

    def measure(logits: Array, labels: Array) -> Metrics:
        found = cross_entropy(logits, labels.astype(jnp.int32))
        return {name: jnp.mean(values, axis=-1) for name, values in found.items()}

    return Halves(
        Cut(length, model.hidden, None, False),
        model.layers,
        ("embed",),
        client,
        server,
        lambda batch: batch["tokens"][:, 1:],
        measure,
        jnp.zeros((1, length), jnp.int32),
        METRICS,
        loss_cap(dataset.num_classes),
    )
