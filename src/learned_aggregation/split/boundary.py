"""What crosses between client and server at each local step, as messages whose bits are counted."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_aggregation.errors import UserError
from learned_aggregation.split.bottlenecks.base import Bottleneck
from learned_aggregation.split.model import SplitModel
from learned_aggregation.types import Compressor, Key, Params

CLASS_TOKEN = ("whole", "quantised", "through")
LABELS_AT = ("server", "client")


class Latents(NamedTuple):
    """What stands for a batch's activations on the wire, or its gradient: leaves [B, ...].

    token: the class token [B, 1, d] where it does not go through the bottleneck, else ().
    latents: [B, m, z].
    """

    token: Any
    latents: Float[Array, "B m z"]


class Boundary(NamedTuple):
    """The cut with its bottleneck.

    class_token: "whole" (d float32), "quantised" (d numbers through the compressor), "through" (as other tokens).
    up, down: the compressors of one example's latents and of their gradient.
    labels_at: "server": labels go up; "client": logits come down and their gradient goes up.
    """

    bottleneck: Bottleneck
    class_token: str
    up: Compressor
    down: Compressor
    labels_at: str = "server"

    @property
    def token_crosses(self) -> bool:
        """Whether the class token goes round the bottleneck."""
        return self.class_token != "through"


def check_boundary(class_token: str, labels_at: str, bottleneck: str) -> None:
    """Raises a UserError for a way to cross that there is not, or that the bottleneck cannot take."""
    for name, value, known in (
        ("class_token", class_token, CLASS_TOKEN),
        ("labels_at", labels_at, LABELS_AT),
    ):
        if value not in known:
            raise UserError(
                f"{name}: expected one of {', '.join(known)}, got {value!r}. Choose one of these."
            )
    if bottleneck == "conv" and class_token == "through":
        raise UserError(
            "class_token: expected 'whole' or 'quantised' with the bottleneck conv, which needs a grid of patches, "
            "got 'through'. Use class_token='whole', or a bottleneck of single tokens."
        )


def encode(
    model: SplitModel, boundary: Boundary, encoder: Params, activations: Float[Array, "B t d"]
) -> Latents:
    """activations -> latents, at the client."""
    token, rest = apart(model, boundary, activations)
    return Latents(token, boundary.bottleneck.encode(encoder, rest))


def decode(model: SplitModel, boundary: Boundary, decoder: Params, sent: Latents) -> Float[Array, "B t d"]:
    """latents -> activations, at the server."""
    rest = boundary.bottleneck.decode(decoder, sent.latents)
    return jnp.concatenate([sent.token, rest], axis=1) if _has_token(model, boundary) else rest


def apart(model: SplitModel, boundary: Boundary, activations: Float[Array, "B t d"]) -> tuple[Any, Array]:
    """(the class token that goes round the bottleneck or (), the tokens that go through it)."""
    if not _has_token(model, boundary):
        return (), activations
    return activations[:, :1], activations[:, 1:]


def _has_token(model: SplitModel, boundary: Boundary) -> bool:
    return model.halves.cut.class_token and boundary.token_crosses


def pack(boundary: Boundary, compressor: Compressor, sent: Latents, key: Key) -> Latents:
    """The messages of a batch, one for each example: the latents' by the compressor, a whole token as it is."""
    keys = jax.random.split(key, sent.latents.shape[0])
    encode_one = jax.vmap(lambda tree, one: compressor.encode(tree, compressor.init(tree), one)[0])
    if boundary.class_token == "quantised":
        return Latents((), encode_one(sent, keys))
    return Latents(sent.token, encode_one(sent.latents, keys))


def unpack(boundary: Boundary, compressor: Compressor, messages: Latents) -> Latents:
    """What arrives of `pack`'s messages."""
    arrived = jax.vmap(compressor.decode)(messages.latents)
    return arrived if boundary.class_token == "quantised" else Latents(messages.token, arrived)


class Count(NamedTuple):
    """Bits of ONE example at one local step, by what crosses: name -> bits."""

    up: dict[str, float]
    down: dict[str, float]


def count(model: SplitModel, boundary: Boundary) -> Count:
    """What an example's activations, gradients, labels and logits take on the wire, exact.

    Example:
      >>> from learned_aggregation.data import load_dataset
      >>> from learned_aggregation.federated.compressors.none import none
      >>> from learned_aggregation.split.bottlenecks import BOTTLENECKS
      >>> from learned_aggregation.split.model import split_model
      >>> model = split_model("vit_p4_h8_m16_nh2_nl3_digits_8", load_dataset("digits", 8), split_layer=1)
      >>> linear = BOTTLENECKS["linear"](model.halves.cut, 2)  # 4 patches of 2 numbers, a class token of 8, a label
      >>> count(model, Boundary(linear, "whole", none(), none()))
      Count(up={'latents': 512.0, 'labels': 32.0}, down={'gradients': 512.0})
    """
    activations, labels, logits = jax.eval_shape(lambda: _example(model))
    sent = jax.eval_shape(
        lambda x: encode(model, boundary, boundary.bottleneck.init(jax.random.key(0)).encoder, x), activations
    )
    up = {"latents": _bits(boundary, boundary.up, sent)}
    down = {"gradients": _bits(boundary, boundary.down, sent)}
    if boundary.labels_at == "server":
        return Count({**up, "labels": _array_bits(labels)}, down)
    return Count({**up, "logit_gradients": _array_bits(logits)}, {**down, "logits": _array_bits(logits)})


def _example(model: SplitModel) -> tuple[Array, Array, Array]:
    """(activations, labels, logits) of a batch of one; for its shapes alone."""
    client, server = model.part(model.init(jax.random.key(0)))
    batch = {name: jnp.zeros(leaf.shape, leaf.dtype) for name, leaf in model.spec.items()}
    activations = model.halves.client(client, batch)
    return activations, model.halves.labels(batch), model.halves.server(server, activations)


def _bits(boundary: Boundary, compressor: Compressor, sent: Latents) -> float:
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), sent)
    if boundary.class_token == "quantised":
        return compressor.bits(one)
    return compressor.bits(one.latents) + sum(map(_array_bits, jax.tree.leaves(sent.token)))


def _array_bits(leaf: Any) -> float:
    return 8.0 * leaf.dtype.itemsize * math.prod(leaf.shape)
