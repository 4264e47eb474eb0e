"""Parallel split training as client work: the cohort trains its halves against one server half, step by step."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from learned_aggregation.errors import UserError
from learned_aggregation.split import boundary as cut
from learned_aggregation.split.boundary import Boundary
from learned_aggregation.split.model import SplitModel
from learned_aggregation.types import (
    Batch,
    ClientUpdate,
    ClientWork,
    Key,
    Metrics,
    Params,
    Server,
    Task,
    Traffic,
)


class ClientSide(NamedTuple):
    """`params` of the round, which the aggregator sees: the clients' blocks, an encoder that all share and train."""

    blocks: Params
    encoder: Params = ()


class ServerSide(NamedTuple):
    """`model_state` of the round, which no aggregator sees.

    top: the server's blocks. decoder: where one serves all clients. encoder: one for all that is not trained.
    optimizer: the server's, () where it starts afresh in each round.
    """

    top: Params
    decoder: Params = ()
    encoder: Params = ()
    optimizer: Any = ()


class Kept(NamedTuple):
    """What is kept for each client of the population: its encoder, the server's decoder for it, optimizers' states."""

    encoder: Params = ()
    decoder: Params = ()
    optimizer: Any = ()


class Sharing(NamedTuple):
    """Whose the autoencoder is: one encoder for all clients or one for each, likewise the server's decoders.

    trained: it is trained along with the model.
    """

    one_encoder: bool = True
    one_decoder: bool = True
    trained: bool = False


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


class SplitTraining(NamedTuple):
    """How the halves are trained: see `split_work`."""

    model: SplitModel
    boundary: Boundary
    sharing: Sharing
    client_optimizer: optax.GradientTransformation
    server_optimizer: optax.GradientTransformation
    keep_state: bool = False


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


def split_work(training: SplitTraining, num_steps: int, batch_size: int) -> ClientWork:
    """Parallel split training: H local steps of all clients at once against the one server half.

    At each local step every client sends its batch's latents, the server takes one step on the concatenated batch,
    gradients go back and every client takes its step. The deltas of the clients' blocks are the update; the server's
    half moves within the round and never reaches the aggregator.

    Traffic besides the blocks: H B times what an example takes at the boundary (`boundary.count`).

    Args:
      num_steps, batch_size: H and B, for the traffic.
    """
    model, boundary, sharing, *_ = training
    clients, server_side, keep = training.client_optimizer, training.server_optimizer, training.keep_state

    def init(params: ClientSide) -> Kept:
        blank = boundary.bottleneck.init(jax.random.key(0))
        encoder = () if sharing.one_encoder else blank.encoder
        decoder = () if sharing.one_decoder else blank.decoder
        own = _own_state(params, encoder, decoder) if keep else ()
        return Kept(encoder, decoder, own)

    def _own_state(params: ClientSide, encoder: Params, decoder: Params) -> Any:
        """States of the client's optimizer, and of the server's for a decoder of this client's."""
        trained = params if sharing.one_encoder or not sharing.trained else params._replace(encoder=encoder)
        decoder = decoder if sharing.trained else ()
        return clients.init(trained), server_side.init(decoder)

    def run(server: Server, batches: Batch, weight: Float[Array, "K"], states: Kept, key: Key):
        number = weight.shape[0]
        share = (weight > 0) / jnp.sum(weight > 0)
        half: ServerSide = server.model_state
        fixed_encoder = _spread(half.encoder, number) if sharing.one_encoder else states.encoder
        start = _spread(server.params, number)
        if sharing.trained and not sharing.one_encoder:
            start = start._replace(encoder=states.encoder)
        moving = {"top": half.top, "decoder": half.decoder if sharing.trained else ()}
        own = states.decoder if sharing.trained else ()
        fresh = jax.vmap(_own_state)(_spread(server.params, number), states.encoder, states.decoder)
        client_states, decoder_states = states.optimizer if keep else fresh
        server_state = half.optimizer if keep else server_side.init(moving)

        def step(carry, inputs):
            local, own, moving, client_states, decoder_states, server_state = carry
            batch, step_key = inputs
            encoder = local.encoder if sharing.trained else fixed_encoder
            if sharing.one_decoder:
                decoder = moving["decoder"] if sharing.trained else half.decoder
            else:
                decoder = own if sharing.trained else states.decoder
            ends = Ends(local.blocks, encoder, moving["top"], decoder)
            found, losses, _ = exchange(model, boundary, sharing.one_decoder, ends, batch, share, step_key)
            gradient = ClientSide(found.blocks, found.encoder if sharing.trained else ())
            updates, client_states = jax.vmap(clients.update)(gradient, client_states, local)
            local = optax.apply_updates(local, updates)
            shared = sharing.trained and sharing.one_decoder
            above = {"top": found.top, "decoder": found.decoder if shared else ()}
            updates, server_state = server_side.update(above, server_state, moving)
            moving = optax.apply_updates(moving, updates)
            if sharing.trained and not sharing.one_decoder:
                updates, decoder_states = jax.vmap(server_side.update)(found.decoder, decoder_states, own)
                own = optax.apply_updates(own, updates)
            return (local, own, moving, client_states, decoder_states, server_state), losses

        by_step = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), batches)
        length = jax.tree.leaves(by_step)[0].shape[0]
        carry = (start, own, moving, client_states, decoder_states, server_state)
        carry, losses = jax.lax.scan(step, carry, (by_step, jax.random.split(key, length)))
        local, own, moving, client_states, decoder_states, server_state = carry
        kept = states
        if sharing.trained:
            kept = kept._replace(decoder=own)
            if not sharing.one_encoder:
                kept = kept._replace(encoder=local.encoder)
                local = local._replace(encoder=())
        if keep:
            kept = kept._replace(optimizer=(client_states, decoder_states))
        delta = jax.tree.map(lambda after, before: after - before, local, server.params)
        half = half._replace(top=moving["top"], optimizer=server_state if keep else ())
        if sharing.trained and sharing.one_decoder:
            half = half._replace(decoder=moving["decoder"])
        return ClientUpdate(delta, half, losses.mean(axis=0), weight), kept

    def traffic(params: ClientSide) -> Traffic:
        crossed = cut.count(model, boundary)
        steps = num_steps * batch_size
        return Traffic(steps * sum(crossed.up.values()), steps * sum(crossed.down.values()))

    def rebuild(task: Task, scale: Params | None = None) -> ClientWork:
        raise UserError(
            f"split training: expected the task that was cut, got a wrapped one of {task.name}. Leave task "
            "augmentation, muP and freezing out of a split run."
        )

    return ClientWork(init, run, traffic, rebuild)


def _spread(tree: Any, number: int) -> Any:
    """One for each of K clients: leaves [...] -> [K, ...]."""
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (number, *jnp.shape(leaf))), tree)


def server_optimizer_state(training: SplitTraining, half: ServerSide) -> ServerSide:
    """The server's half with the state that its optimizer starts from, where it is kept over rounds."""
    if not training.keep_state:
        return half
    moving = {"top": half.top, "decoder": half.decoder if training.sharing.trained else ()}
    return half._replace(optimizer=training.server_optimizer.init(moving))


def split_task(training: SplitTraining) -> Task:
    """The task with the bottleneck always on, in training and when it is evaluated.

    params is a ClientSide and model_state a ServerSide with the autoencoder that is meant: with an encoder or decoder
    for each client, `evaluation.view` puts one client's there.
    """
    model, boundary = training.model, training.boundary

    def init(key: Key) -> tuple[ClientSide, ServerSide]:
        blocks, top = model.part(model.init(key))
        encoder, decoder = boundary.bottleneck.init(jax.random.fold_in(key, 1))
        sharing = training.sharing
        shared_encoder = encoder if sharing.one_encoder else ()
        half = ServerSide(
            top,
            decoder if sharing.one_decoder else (),
            () if sharing.trained else shared_encoder,
        )
        params = ClientSide(blocks, shared_encoder if sharing.trained else ())
        return params, server_optimizer_state(training, half)

    def evaluate(params: ClientSide, state: ServerSide, key: Key, batch: Batch) -> Metrics:
        encoder = params.encoder if jax.tree.leaves(params.encoder) else state.encoder
        sent = cut.encode(model, boundary, encoder, model.halves.client(params.blocks, batch))
        arrived = cut.unpack(boundary, boundary.up, cut.pack(boundary, boundary.up, sent, key))
        logits = model.halves.server(state.top, cut.decode(model, boundary, state.decoder, arrived))
        return model.halves.measure(logits, model.halves.labels(batch))

    def loss(params: ClientSide, state: ServerSide, key: Key, batch: Batch):
        found = {name: jnp.mean(value) for name, value in evaluate(params, state, key, batch).items()}
        return found.pop("loss"), (state, found)

    return Task(model.name, init, loss, evaluate, model.halves.cap, model.halves.metrics)
