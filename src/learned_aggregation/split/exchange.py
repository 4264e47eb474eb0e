"""One local step of parallel split training: what goes up, what the server makes of it, what comes back."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_aggregation.split import boundary as cut
from learned_aggregation.split.boundary import Boundary
from learned_aggregation.split.model import SplitModel
from learned_aggregation.types import Batch, Key, Params


class Ends(NamedTuple):
    """All parameters of a local step: the clients', leaves [K, ...]; the server's, the decoder [K, ...] or one."""

    blocks: Params
    encoder: Params
    top: Params
    decoder: Params


class Wires(NamedTuple):
    """The arrays that crossed at a local step, all clients' together: leaves [K, B, ...]."""

    up: dict[str, Any]
    down: dict[str, Any]


def exchange(
    model: SplitModel,
    boundary: Boundary,
    one_decoder: bool,
    ends: Ends,
    batch: Batch,
    share: Float[Array, "K"],
    key: Key,
) -> tuple[Ends, Float[Array, "K"], Wires]:
    """One local step's computation: latents up, the server's gradient on all of them, their gradients back.

    The server's gradient is that of sum_k share_k L_k, L_k the mean loss of client k's batch: the mean over the
    concatenated batch of the clients that take part. What goes back to client k is the gradient of its own L_k, so
    that its step is as long as in training alone. Quantised numbers are differentiated straight through.

    Args:
      ends: of all K clients and the server.
      batch: leaves [K, B, ...].
      share: 1 / (clients that take part), 0 for one that dropped out.
    Returns:
      (gradients like `ends`, the losses L_k, what crossed).
    References:
      Vepakomma et al., "Split learning for health", 2018, arXiv:1812.00564; parallel: Jeon and Kim, "Privacy-sensitive
      parallel split learning", ICOIN 2020. Straight through: Bengio et al., 2013, arXiv:1308.3432.
    """
    decoders = None if one_decoder else 0
    up_key, down_key = jax.random.split(key)

    def uplink(blocks: Params, encoder: Params):
        def one(blocks: Params, encoder: Params, data: Batch):
            return cut.encode(model, boundary, encoder, model.halves.client(blocks, data))

        return jax.vmap(one)(blocks, encoder, batch)

    def serve(top: Params, decoder: Params, arrived: Any):
        activations = jax.vmap(lambda d, z: cut.decode(model, boundary, d, z), (decoders, 0))(
            decoder, arrived
        )
        return jax.vmap(model.halves.server, (None, 0))(top, activations)

    def losses_of(logits: Array):
        def one(logits: Array, labels: Array):
            return jnp.mean(model.halves.measure(logits, labels)["loss"])

        return jax.vmap(one)(logits, labels)

    latents, to_clients = jax.vjp(uplink, ends.blocks, ends.encoder)
    up, arrived = _send(boundary, boundary.up, latents, up_key)
    logits, to_server = jax.vjp(serve, ends.top, ends.decoder, arrived)
    labels = jax.vmap(model.halves.labels)(batch)
    losses, to_logits = jax.vjp(losses_of, logits)
    [logit_gradients] = to_logits(share)
    top, decoder, gradient = to_server(logit_gradients)
    whole = jnp.where(share > 0, 1.0 / jnp.where(share > 0, share, 1.0), 0.0)
    down, returned = _send(boundary, boundary.down, _scaled(gradient, whole), down_key)
    blocks, encoder = to_clients(returned)
    decoder = decoder if one_decoder else _scaled(decoder, whole)
    if boundary.labels_at == "server":
        wires = Wires({"latents": up, "labels": labels}, {"gradients": down})
    else:
        wires = Wires(
            {"latents": up, "logit_gradients": logit_gradients}, {"gradients": down, "logits": logits}
        )
    return Ends(blocks, encoder, top, decoder), losses, wires


def _send(boundary: Boundary, compressor: Any, sent: Any, key: Key) -> tuple[Any, Any]:
    """(messages, what arrives) of all clients."""
    keys = jax.random.split(key, jax.tree.leaves(sent)[0].shape[0])
    messages = jax.vmap(lambda one, k: cut.pack(boundary, compressor, one, k))(sent, keys)
    return messages, jax.vmap(lambda one: cut.unpack(boundary, compressor, one))(messages)


def _scaled(tree: Params, factor: Float[Array, "K"]) -> Params:
    return jax.tree.map(lambda leaf: leaf * factor.reshape(-1, *[1] * (leaf.ndim - 1)), tree)
