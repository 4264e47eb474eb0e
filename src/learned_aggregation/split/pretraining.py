"""Stage 1: autoencoders trained on the activations at the cut, by rounds of the same federated round.

Central training is a population of one client. Each client's encoder is its own state; a decoder for all is the
round's params, which an aggregator averages, and a decoder for each client is that client's state too.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from learned_aggregation.data.federated import to_federated
from learned_aggregation.devices.parallel import compiler_options
from learned_aggregation.errors import RunError
from learned_aggregation.federated.parts import assemble
from learned_aggregation.federated.round import federated_round, init_server, traffic
from learned_aggregation.problems.inner_problem import RoundSizes, draw_round
from learned_aggregation.split.bottlenecks.base import Autoencoder, Bottleneck
from learned_aggregation.split.optimizing import stepped
from learned_aggregation.types import (
    Aggregator,
    Batch,
    ClientUpdate,
    ClientWork,
    FederatedData,
    Key,
    Metric,
    Params,
    Parts,
    Server,
    Split,
    Task,
    Theta,
    Traffic,
)

MEASURED = 512
"""The most examples of a client that an error is measured on."""


class Recipe(NamedTuple):
    """How stage 1 trains; see `options.SplitOptions` for each."""

    epochs: int
    batch_size: int
    learning_rate: float
    learning_rate_end: float
    val_mode: str
    val_split: float
    patience: int


class Trained(NamedTuple):
    """autoencoder: with a leading axis of C clients on what is trained at each of them.

    errors: the mean squared error that the rounds were judged by, [rounds]: held out, or in training with val_mode
    none. best: the round (from 1) that was kept. traffic: bits per client, all rounds together.
    """

    autoencoder: Autoencoder
    errors: list[float]
    best: int
    traffic: Traffic


class AutoencoderState(NamedTuple):
    """What a client keeps between rounds."""

    encoder: Params
    decoder: Params
    optimizer: Any


def squared_error(
    bottleneck: Bottleneck, autoencoder: Autoencoder, tokens: Float[Array, "B n d"]
) -> Float[Array, "B"]:
    """mean((decode(encode(x)) - x)^2) over an example's tokens and their numbers."""
    rebuilt = bottleneck.decode(autoencoder.decoder, bottleneck.encode(autoencoder.encoder, tokens))
    return jnp.mean((rebuilt - tokens) ** 2, axis=(1, 2))


def autoencoder_parts(
    bottleneck: Bottleneck,
    start: Autoencoder,
    optimizer: optax.GradientTransformation,
    aggregator: Aggregator,
    one_decoder: bool,
) -> Parts:
    """The parts of a round of stage 1.

    Args:
      start: what every client begins with; with one decoder for all, that is aggregated.
    """

    def init(key: Key) -> tuple[Params, tuple]:
        return start.decoder if one_decoder else (), ()

    def evaluate(params: Params, state: tuple, key: Key, batch: Batch):
        decoder = params if one_decoder else start.decoder
        return {
            "loss": squared_error(bottleneck, start._replace(decoder=decoder), batch["tokens"]),
        }

    def loss(params: Params, state: tuple, key: Key, batch: Batch):
        return jnp.mean(evaluate(params, state, key, batch)["loss"]), (state, {})

    task = Task("autoencoder", init, loss, evaluate, None, (Metric("loss", unit="squared activations"),))

    def begin(params: Params) -> AutoencoderState:
        decoder = () if one_decoder else start.decoder
        return AutoencoderState(start.encoder, decoder, optimizer.init(start))

    def run(server: Server, batches: Batch, weight: Float[Array, "K"], states: AutoencoderState, key: Key):
        def client(state: AutoencoderState, data: Batch):
            def step(carry, batch):
                model, opt_state = carry
                value, grads = jax.value_and_grad(
                    lambda model: jnp.mean(squared_error(bottleneck, model, batch["tokens"]))
                )(model)
                return stepped(optimizer, grads, opt_state, model), value

            model = Autoencoder(state.encoder, server.params if one_decoder else state.decoder)
            (model, opt_state), losses = jax.lax.scan(step, (model, state.optimizer), data)
            after = AutoencoderState(model.encoder, () if one_decoder else model.decoder, opt_state)
            delta = jax.tree.map(jnp.subtract, model.decoder, server.params) if one_decoder else ()
            return delta, after, jnp.mean(losses)

        delta, after, losses = jax.vmap(client)(states, batches)
        return ClientUpdate(delta, server.model_state, losses, weight), after

    work = ClientWork(begin, run, lambda params: Traffic(0.0, 0.0), lambda task, scale: work)
    return assemble(task, work, aggregator)


def pretrain(
    bottleneck: Bottleneck,
    tokens: Float[np.ndarray, "N n d"],
    rows: Sequence[np.ndarray],
    recipe: Recipe,
    aggregator: Aggregator,
    theta: Theta,
    one_decoder: bool,
    key: Key,
    on_round: Callable[[int, float], None] = lambda done, error: None,
) -> Trained:
    """Stage 1: Adam on the mean squared error, its rate falling along a cosine over all rounds.

    A round is about one pass of every client over its data, in batches drawn with replacement. All clients take part,
    weighted by their numbers of examples.

    Args:
      tokens: the activations that go through the bottleneck.
      rows: ids of each client's examples; one client is central training.
      aggregator, theta: of the decoders, with `one_decoder` and several clients.
      on_round: called with the rounds done and the error so far.
    Raises:
      RunError: no round had a finite error.
    """
    several = len(rows) > 1
    one_decoder = one_decoder and several
    fitted, held_out = held_out_rows(rows, recipe, key)
    steps = max(1, round(np.mean([len(ids) for ids in fitted]) / recipe.batch_size))
    rate = cosine_rate(recipe, steps)
    start = bottleneck.init(jax.random.fold_in(key, 1))
    parts = autoencoder_parts(bottleneck, start, optax.adam(rate), aggregator, one_decoder)
    data = to_federated(Split({"tokens": tokens}), list(fitted))
    sizes = RoundSizes(len(rows), steps, recipe.batch_size)
    judged = padded_rows(held_out)

    def one_round(server: Server, data: FederatedData, round_key: Key):
        cohort_key, train_key = jax.random.split(round_key)
        cohort = draw_round(data, cohort_key, sizes)
        server, loss = federated_round(theta, parts, server, *cohort, train_key)
        if recipe.val_mode == "none":
            return server, loss
        each = _autoencoders(server, one_decoder)
        errors = client_errors(bottleneck, each, one_decoder, data.examples["tokens"], judged)
        return server, jnp.mean(errors)

    params, state = parts.task.init(key)
    server = init_server(theta, parts, params, state, len(rows))
    step = jax.jit(one_round, compiler_options=compiler_options())
    best, errors = (math.inf, 0, server), []
    for index in range(recipe.epochs):
        server, error = step(server, data, jax.random.fold_in(key, index + 2))
        errors.append(float(error))
        if errors[-1] < best[0] or (recipe.val_mode == "none" and math.isfinite(errors[-1])):
            best = (errors[-1], index + 1, server)
        on_round(index + 1, errors[-1])
        if recipe.val_mode == "early_stopping" and index + 1 - best[1] >= recipe.patience:
            break
    if not best[1]:
        raise RunError(
            f"stage 1: expected a finite reconstruction error, got {errors[-1]!r} in each of {len(errors)} rounds. "
            "Lower ae_learning_rate."
        )
    found = jax.device_get(_autoencoders(best[2], one_decoder))
    if not several:
        found = jax.tree.map(lambda leaf: leaf[0], found)
    return Trained(found, errors, best[1], _sent(parts, start, one_decoder, several, len(errors)))


def cosine_rate(recipe: Recipe, steps: int) -> optax.Schedule:
    """local step -> rate: from learning_rate to learning_rate_end along a cosine over all epochs of `steps`."""
    end = recipe.learning_rate_end / recipe.learning_rate
    return optax.cosine_decay_schedule(recipe.learning_rate, recipe.epochs * steps, end)


def _autoencoders(server: Server, one_decoder: bool) -> Autoencoder:
    state = server.clients.work
    return Autoencoder(state.encoder, server.params if one_decoder else state.decoder)


def _sent(parts: Parts, start: Autoencoder, one_decoder: bool, several: bool, rounds: int) -> Traffic:
    """Aggregated decoders cross both ways in each round; a client's own goes up once; a central encoder down once."""
    if one_decoder:
        one = traffic(parts, start.decoder)
        return Traffic(rounds * one.up, rounds * one.down)
    if several:
        return Traffic(parts.compressor.bits(start.decoder), 0.0)
    return Traffic(0.0, parts.compressor.bits(start.encoder))


def held_out_rows(
    rows: Sequence[np.ndarray], recipe: Recipe, key: Key
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(rows to train on, rows held out) of each client; all of them twice with val_mode none or a single example."""
    if recipe.val_mode == "none":
        return list(rows), list(rows)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    fitted, held_out = [], []
    for ids in rows:
        mixed = rng.permutation(ids)
        count = max(1, round(recipe.val_split * len(ids))) if len(ids) > 1 else 0
        fitted.append(np.sort(mixed[count:]))
        held_out.append(np.sort(mixed[:count]) if count else ids)
    return fitted, held_out


def padded_rows(rows: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(ids [C, V], 1 where they are a client's and 0 where they fill up), at most MEASURED of each client."""
    kept = [ids[np.linspace(0, len(ids) - 1, min(len(ids), MEASURED)).astype(int)] for ids in rows]
    width = max(map(len, kept))
    ids = np.stack([np.resize(one, width) for one in kept])
    return ids, np.stack([np.arange(width) < len(one) for one in kept]).astype(np.float32)


def client_errors(
    bottleneck: Bottleneck, each: Autoencoder, one_decoder: bool, tokens: Array, judged: tuple[Any, Any]
) -> Float[Array, "C"]:
    """Each client's error on its own rows; leaves of the encoder [C, ...], of the decoder [C, ...] or one."""
    ids, mask = judged

    def one(encoder: Params, decoder: Params, rows: Array, weight: Array):
        error = squared_error(bottleneck, Autoencoder(encoder, decoder), tokens[rows])
        return jnp.sum(weight * error) / jnp.sum(weight)

    return jax.vmap(one, (0, None if one_decoder else 0, 0, 0))(each.encoder, each.decoder, ids, mask)


class Reconstruction(NamedTuple):
    """Mean squared errors of each client's autoencoder: on its own examples, and the mean over the other clients'."""

    own: Float[np.ndarray, "C"]
    others: Float[np.ndarray, "C"]


def reconstruction(
    bottleneck: Bottleneck,
    autoencoder: Autoencoder,
    one_encoder: bool,
    one_decoder: bool,
    tokens: Float[np.ndarray, "N n d"],
    rows: Sequence[np.ndarray],
) -> Reconstruction:
    """The errors of every client's autoencoder on every client's examples, at most MEASURED of each.

    Args:
      autoencoder: leaves [C, ...] of what there is one of for each client.
      rows: places of each client's examples in `tokens`.
    """
    ids, mask = padded_rows(rows)
    number = len(rows)
    encoders, decoders = (
        jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (number, *np.shape(leaf))), tree) if one else tree
        for tree, one in ((autoencoder.encoder, one_encoder), (autoencoder.decoder, one_decoder))
    )

    @jax.jit
    def matrix(encoders: Params, decoders: Params, data: Array):
        def row(one: tuple[Params, Params, Array]):
            return jax.lax.map(
                lambda chunk: (
                    jnp.sum(chunk[1] * squared_error(bottleneck, Autoencoder(*one[:2]), data[chunk[0]]))
                    / jnp.sum(chunk[1])
                ),
                (jnp.asarray(ids), jnp.asarray(mask)),
            )

        return jax.lax.map(row, (encoders, decoders, jnp.arange(number)))  # identity has no leaves

    found = np.asarray(matrix(encoders, decoders, jnp.asarray(tokens)), np.float64)
    own = np.diag(found)
    others = (found.sum(axis=1) - own) / max(1, number - 1) if number > 1 else own
    return Reconstruction(own, others)
