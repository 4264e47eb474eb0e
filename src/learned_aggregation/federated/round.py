"""ONE federated round over its parts: client work -> compressor -> aggregator -> server work. Everything uses this."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from learned_aggregation.errors import UserError
from learned_aggregation.federated.compression import compress
from learned_aggregation.types import (
    Batch,
    ClientState,
    ClientUpdate,
    Key,
    ModelState,
    Params,
    Parts,
    Server,
    Theta,
    Traffic,
)

_UP, _DOWN, _SERVER = (2**31 - n for n in (1, 2, 3))
"""Folded into a round's key for the compressors and the server; far from the clients' 0 .. K-1."""


def init_server(
    theta: Theta, parts: Parts, params: Params, model_state: ModelState, population: int
) -> Server:
    """The server before the first round.

    Args:
      population: C, the clients whose state is kept.
    """
    one = ClientState(parts.clients.init(params), parts.compressor.init(params))
    clients = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (population, *jnp.shape(leaf))), one)
    return Server(
        params,
        model_state,
        parts.aggregator.init(theta, params),
        clients,
        parts.server_compressor.init(params),
        parts.server_work.init(params),
    )


def federated_round(
    theta: Theta,
    parts: Parts,
    server: Server,
    batches: Batch,
    weight: Float[Array, "K"],
    ids: Int[Array, "K"],
    key: Key,
) -> tuple[Server, Float[Array, ""]]:
    """One communication round: K clients work, what they send is compressed, the aggregator writes the next model.

    A client of weight 0 has dropped out: it sends nothing and keeps all of what it had before the round.

    Args:
      batches: leaves [K, H, B, ...].
      weight: [K], each client's share in averages.
      ids: [K], the clients' places in the population, all different; not read where K = C: all take part, in order.
    Returns:
      (server, the round's training loss: the mean over the clients that did not drop out and over
      their local steps).
    References:
      Joseph et al., 2025, arXiv:2312.02204, Algorithm 1.
    """
    cohort = _gather(server.clients, ids)
    update, work = parts.clients.run(server, batches, weight, cohort.work, key)
    delta, feedback = _sent(parts, update, cohort.feedback, key)
    update = update._replace(delta=delta)
    clients = _scatter(server.clients, ids, _where(weight > 0, ClientState(work, feedback), cohort))
    step, agg_state = parts.aggregator.update(theta, update, server.agg_state, server.params)
    _check_same("a step like params", server.params, step)
    _check_same("an agg_state like the one before", server.agg_state, agg_state)
    down_key = jax.random.fold_in(key, _DOWN)
    step, down_feedback = compress(parts.server_compressor, step, server.feedback, down_key)
    params = jax.tree.map(jnp.add, server.params, step)
    after = Server(params, update.model_state, agg_state, clients, down_feedback, server.work)
    after = parts.server_work.run(after, update, jax.random.fold_in(key, _SERVER))
    took_part = (weight > 0).astype(jnp.float32)
    loss = jnp.sum(jnp.where(weight > 0, update.loss, 0.0)) / jnp.sum(took_part)
    return after, loss


def _check_same(what: str, before: Any, after: Any) -> None:
    """Refuses what an aggregator of another form returns: shapes that broadcast would change the model in silence.

    Raises:
      UserError: another tree or other shapes.
    """
    found, wanted = (
        {
            jax.tree_util.keystr(path): jnp.shape(leaf)
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        }
        for tree in (after, before)
    )
    if jax.tree.structure(after) != jax.tree.structure(before) or found != wanted:
        name = next((n for n in {**wanted, **found} if found.get(n) != wanted.get(n)), None)
        got = "another tree" if name is None else f"{name or 'leaf'} {found.get(name, 'missing')}"
        of = "its kinds of nodes" if name is None else f"{wanted.get(name, 'nothing')}"
        raise UserError(
            f"aggregator: expected an update that returns {what}, got {got} in the place of {of}. "
            "Let it return trees like those that it is called with."
        )


def traffic(parts: Parts, params: Params) -> Traffic:
    """Bits per client per round: its compressed delta up, the server's message down, and what else its work sends.

    Args:
      params: of the task, or their shapes.
    """
    rest = parts.clients.traffic(params)
    return Traffic(parts.compressor.bits(params) + rest.up, parts.server_compressor.bits(params) + rest.down)


def _sent(parts: Parts, update: ClientUpdate, feedback: Any, key: Key) -> tuple[Params, Any]:
    """The deltas as they reach the server, 0 for clients that dropped out, and each client's feedback."""
    keys = jax.random.split(jax.random.fold_in(key, _UP), update.weight.shape[0])
    one = jax.vmap(lambda delta, remembered, k: compress(parts.compressor, delta, remembered, k))
    delta, feedback = one(update.delta, feedback, keys)
    return _where(update.weight > 0, delta, jax.tree.map(jnp.zeros_like, delta)), feedback


def _where(stays: Array, trained: Any, instead: Any) -> Any:
    """`trained` at the clients that stay, `instead` at the others; leaves [K, ...]."""
    return jax.tree.map(
        lambda new, old: jnp.where(stays.reshape(-1, *[1] * (new.ndim - 1)), new, old), trained, instead
    )


def _gather(population: ClientState, ids: Int[Array, "K"]) -> ClientState:
    """The states of the cohort, leaves [C, ...] -> [K, ...]."""
    return jax.tree.map(lambda leaf: leaf if leaf.shape[0] == len(ids) else leaf[ids], population)


def _scatter(population: ClientState, ids: Int[Array, "K"], cohort: ClientState) -> ClientState:
    """The population with the cohort's new states at their places."""
    return jax.tree.map(
        lambda leaf, new: new if leaf.shape[0] == len(ids) else leaf.at[ids].set(new), population, cohort
    )
