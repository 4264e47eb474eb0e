"""ONE federated round: cohort -> local training of each client -> aggregate. Everything uses this."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_aggregation.devices.parallel import map_clients
from learned_aggregation.federated.averaging import weighted_mean
from learned_aggregation.federated.local_training import LocalTraining
from learned_aggregation.types import (
    Aggregator,
    AggState,
    Batch,
    ClientUpdate,
    Key,
    ModelState,
    Params,
    Theta,
)


class ServerState(NamedTuple):
    """What a round reads and writes.

    client_state: leaves [K, ...], the clients' own state that outlives a round; () for most.
    """

    params: Params
    model_state: ModelState
    agg_state: AggState
    client_state: Any


def init_server(
    theta: Theta,
    aggregator: Aggregator,
    local: LocalTraining,
    params: Params,
    model_state: ModelState,
    num_clients: int,
) -> ServerState:
    one = local.init(params)
    client_state = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num_clients, *jnp.shape(leaf))), one)
    return ServerState(params, model_state, aggregator.init(theta, params), client_state)


def train_cohort(
    local: LocalTraining, server: ServerState, batches: Batch, weight: Float[Array, "K"], key: Key
) -> tuple[ClientUpdate, Any]:
    """Every client of the cohort trains from the server's model.

    A client of weight 0 has dropped out: its delta is 0 and its model state the server's.

    Args:
      batches: leaves [K, H, B, ...].
    Returns:
      (the cohort's update, its client state).
    """
    keys = jax.random.split(key, weight.shape[0])
    delta, model_state, client_state, loss = map_clients(
        lambda model, own: local.run(*model, *own),
        (server.params, server.model_state),
        (server.client_state, keys, batches),
    )
    delta = _unless_dropped(weight, delta, jax.tree.map(jnp.zeros_like, server.params))
    model_state = _unless_dropped(weight, model_state, server.model_state)
    return ClientUpdate(delta, model_state, loss, weight), client_state


def _unless_dropped(weight: Float[Array, "K"], trained: Any, instead: Any) -> Any:
    """`trained`, leaves [K, ...], with `instead`, leaves [...], at the clients of weight 0."""

    def one(leaf: Array, other: Array) -> Array:
        return jnp.where((weight > 0).reshape(-1, *[1] * other.ndim), leaf, other)

    return jax.tree.map(one, trained, instead)


def federated_round(
    theta: Theta,
    aggregator: Aggregator,
    local: LocalTraining,
    server: ServerState,
    batches: Batch,
    weight: Float[Array, "K"],
    key: Key,
) -> tuple[ServerState, Float[Array, ""]]:
    """One communication round: K clients take H local steps, the aggregator writes the next model.

    Args:
      batches: leaves [K, H, B, ...].
      weight: [K], each client's share in averages.
    Returns:
      (server state, the round's training loss: the mean over the clients that did not drop out and over
      their local steps).
    References:
      Joseph et al., 2025, arXiv:2312.02204, Algorithm 1.
    """
    update, client_state = train_cohort(local, server, batches, weight, key)
    step, agg_state = aggregator.update(theta, update, server.agg_state, server.params)
    params = jax.tree.map(jnp.add, server.params, step)
    model_state = weighted_mean(update.model_state, weight)
    took_part = (weight > 0).astype(jnp.float32)
    loss = jnp.sum(jnp.where(weight > 0, update.loss, 0.0)) / jnp.sum(took_part)
    return ServerState(params, model_state, agg_state, client_state), loss
