"""A vision transformer in two halves: patches, class token, positions and the first blocks; the rest."""

from typing import cast

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array

from learned_aggregation.split.model import Cut, Halves
from learned_aggregation.tasks.flax_task import CLASS_METRICS, cross_entropy, image_inputs, loss_cap
from learned_aggregation.tasks.models.vit import VisionTransformer, cut_patches
from learned_aggregation.tasks.transformer_layers import apply_blocks
from learned_aggregation.types import Batch, Dataset, Metrics, Params

CLIENT = ("embed", "class_token", "positions")


def halves(model: VisionTransformer, dataset: Dataset, split_layer: int) -> Halves:
    """activations [B, 1 + n, d]: the class token first, then the image's patches, row by row."""
    inputs = image_inputs(dataset)
    image = dataset.splits["train"].examples["image"]
    rows, columns = (-(-side // model.patch) for side in image.shape[1:3])
    lower = [f"layer_{i}" for i in range(split_layer)]
    upper = [f"layer_{i}" for i in range(split_layer, model.layers)]

    def client(params: Params, batch: Batch) -> Array:
        embed = nn.Dense(model.hidden)
        x = cast(Array, embed.apply({"params": params["embed"]}, cut_patches(inputs(batch), model.patch)))
        token = jnp.broadcast_to(params["class_token"], (x.shape[0], 1, model.hidden))
        x = jnp.concatenate([token, x], axis=1) + params["positions"]
        return apply_blocks(model.make_block(), [params["layers"][name] for name in lower], x, model.remat)

    def server(params: Params, x: Array) -> Array:
        x = apply_blocks(model.make_block(), [params["layers"][name] for name in upper], x, model.remat)
        first = nn.LayerNorm().apply({"params": params["norm"]}, x[:, 0])
        return cast(Array, nn.Dense(model.num_classes).apply({"params": params["head"]}, first))

    def measure(logits: Array, labels: Array) -> Metrics:
        return cross_entropy(logits, labels)

    cut = Cut(rows * columns, model.hidden, (rows, columns), True)
    return Halves(
        cut,
        model.layers,
        CLIENT,
        client,
        server,
        lambda batch: batch["label"],
        measure,
        jnp.zeros((1, *image.shape[1:])),
        CLASS_METRICS,
        loss_cap(dataset.num_classes),
    )
