"""What a split model is worth, its bottleneck always on: over a split, and client by client."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_aggregation.meta_testing.evaluation import evaluate_split
from learned_aggregation.split.work import ClientSide, Kept, ServerSide, Sharing
from learned_aggregation.types import Batch, Metrics, Server, Task


def view(server: Server, sharing: Sharing, kept: Kept) -> tuple[ClientSide, ServerSide]:
    """(params, model_state) with one client's encoder and decoder where each client has one."""
    state: ServerSide = server.model_state
    if not sharing.one_encoder:
        state = state._replace(encoder=kept.encoder)
    if not sharing.one_decoder:
        state = state._replace(decoder=kept.decoder)
    return server.params, state


def evaluate(
    task: Task, sharing: Sharing, server: Server, chunks: Batch, mask: Float[Array, "n chunk"]
) -> Metrics:
    """The mean of each metric over a split; where each client has an encoder or decoder, the mean over all clients."""
    if sharing.one_encoder and sharing.one_decoder:
        return evaluate_split(task, server.params, server.model_state, chunks, mask)
    return jax.tree.map(jnp.mean, on_split(task, sharing, server, chunks, mask))


def on_split(
    task: Task, sharing: Sharing, server: Server, chunks: Batch, mask: Float[Array, "n chunk"]
) -> Metrics:
    """Each client's metrics on a whole split, with its encoder and its decoder: leaves [C]."""
    return jax.lax.map(
        lambda kept: evaluate_split(task, *view(server, sharing, kept), chunks, mask), server.clients.work
    )


def on_rows(
    task: Task, sharing: Sharing, server: Server, examples: Batch, ids: Array, mask: Float[Array, "C V"]
) -> Metrics:
    """Each client's metrics on its own examples: leaves [C].

    Args:
      ids, mask: of `pretraining.padded_rows`.
    """

    def one(of_client: tuple[Kept, Array, Array]) -> Any:
        kept, rows, weight = of_client
        batch = {name: leaf[rows] for name, leaf in examples.items()}
        found = task.evaluate(*view(server, sharing, kept), jax.random.key(0), batch)
        return jax.tree.map(lambda values: jnp.sum(weight * values) / jnp.sum(weight), found)

    return jax.lax.map(one, (server.clients.work, ids, mask))
