"""Parallel split training as client work: the cohort trains its halves against one server half, step by step."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from learned_aggregation.errors import UserError
from learned_aggregation.split import boundary as cut
from learned_aggregation.split.boundary import Boundary
from learned_aggregation.split.exchange import Ends, exchange
from learned_aggregation.split.model import SplitModel
from learned_aggregation.split.optimizing import stepped
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


class SplitTraining(NamedTuple):
    """How the halves are trained: see `split_work`."""

    model: SplitModel
    boundary: Boundary
    sharing: Sharing
    client_optimizer: optax.GradientTransformation
    server_optimizer: optax.GradientTransformation
    keep_state: bool = False


class Moving(NamedTuple):
    """What a round's local steps change: leaves [K, ...] of what is each client's.

    local: the clients' side. above: the server's blocks and, where it is trained, the one decoder. decoders: one for
    each client, where they are trained. The states are their optimizers'.
    """

    local: ClientSide
    above: dict[str, Params]
    decoders: Params
    client_states: Any
    decoder_states: Any
    server_state: Any


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
        return Kept(encoder, decoder, own_states(params, encoder, decoder) if keep else ())

    def own_states(params: ClientSide, encoder: Params, decoder: Params) -> Any:
        """Of a client's optimizer, and of the server's for a decoder that is this client's."""
        own_encoder = sharing.trained and not sharing.one_encoder
        trained = params._replace(encoder=encoder) if own_encoder else params
        return clients.init(trained), server_side.init(decoder if sharing.trained else ())

    def begin(server: Server, states: Kept, number: int) -> Moving:
        half: ServerSide = server.model_state
        local: ClientSide = _spread(server.params, number)
        if sharing.trained and not sharing.one_encoder:
            local = local._replace(encoder=states.encoder)
        above = {"top": half.top, "decoder": half.decoder if sharing.trained else ()}
        if keep:
            own, at_server = states.optimizer, half.optimizer
        else:
            own = jax.vmap(own_states)(_spread(server.params, number), states.encoder, states.decoder)
            at_server = server_side.init(above)
        decoders = states.decoder if sharing.trained else ()
        return Moving(local, above, decoders, own[0], own[1], at_server)

    def ends_of(moving: Moving, server: Server, states: Kept, number: int) -> Ends:
        """All parameters of a local step, those that stay where they are included."""
        half: ServerSide = server.model_state
        encoder = _spread(half.encoder, number) if sharing.one_encoder else states.encoder
        decoder = half.decoder if sharing.one_decoder else states.decoder
        if sharing.trained:
            encoder = moving.local.encoder
            decoder = moving.above["decoder"] if sharing.one_decoder else moving.decoders
        return Ends(moving.local.blocks, encoder, moving.above["top"], decoder)

    def moved(moving: Moving, gradient: Ends) -> Moving:
        """After a step of every optimizer."""
        encoder = gradient.encoder if sharing.trained else ()
        local, client_states = jax.vmap(lambda *one: stepped(clients, *one))(
            ClientSide(gradient.blocks, encoder), moving.client_states, moving.local
        )
        shared = gradient.decoder if sharing.trained and sharing.one_decoder else ()
        above = {"top": gradient.top, "decoder": shared}
        above, server_state = stepped(server_side, above, moving.server_state, moving.above)
        decoders, decoder_states = moving.decoders, moving.decoder_states
        if sharing.trained and not sharing.one_decoder:
            decoders, decoder_states = jax.vmap(lambda *one: stepped(server_side, *one))(
                gradient.decoder, decoder_states, decoders
            )
        return Moving(local, above, decoders, client_states, decoder_states, server_state)

    def ended(moving: Moving, server: Server, states: Kept) -> tuple[Params, ServerSide, Kept]:
        """(deltas of the clients' side, the server's side, what is kept of each client)."""
        half: ServerSide = server.model_state
        half = half._replace(top=moving.above["top"], optimizer=moving.server_state if keep else ())
        local = moving.local
        if sharing.trained and sharing.one_decoder:
            half = half._replace(decoder=moving.above["decoder"])
        if sharing.trained and not sharing.one_decoder:
            states = states._replace(decoder=moving.decoders)
        if sharing.trained and not sharing.one_encoder:
            states, local = states._replace(encoder=local.encoder), local._replace(encoder=())
        if keep:
            states = states._replace(optimizer=(moving.client_states, moving.decoder_states))
        return jax.tree.map(jnp.subtract, local, server.params), half, states

    def run(server: Server, batches: Batch, weight: Float[Array, "K"], states: Kept, key: Key):
        number = weight.shape[0]
        share = (weight > 0) / jnp.sum(weight > 0)

        def step(moving: Moving, inputs: tuple[Batch, Key]):
            ends = ends_of(moving, server, states, number)
            gradient, losses, _ = exchange(
                model, boundary, sharing.one_decoder, ends, inputs[0], share, inputs[1]
            )
            return moved(moving, gradient), losses

        by_step = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), batches)
        keys = jax.random.split(key, jax.tree.leaves(by_step)[0].shape[0])
        moving, losses = jax.lax.scan(step, begin(server, states, number), (by_step, keys))
        delta, half, states = ended(moving, server, states)
        return ClientUpdate(delta, half, losses.mean(axis=0), weight), states

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
