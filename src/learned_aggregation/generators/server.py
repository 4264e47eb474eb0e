"""The server's side: it collects the clients' samples, and goes on training the global model on them."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_aggregation.generators.samples import Pool, Samples, joined
from learned_aggregation.runs import messages
from learned_aggregation.types import ClientUpdate, Key, Params, Server, ServerWork, Task


class ServerState(NamedTuple):
    """pool: what the server may train on. params: its model after the round before."""

    pool: Pool
    params: Params


class GeneratorServer:
    """Keeps the newest samples of every client, those of clients that have left too.

    Args:
      directory: where samples that wait in files are put together.
    Example:
      >>> server = GeneratorServer(say=lambda text: None)
      >>> server.receive(0, {3: np.zeros((10, 4, 2))})
      >>> server.receive(1, {3: np.zeros((10, 4, 2)), 5: np.zeros((10, 4, 2))})
      >>> {label: len(of) for label, of in server.aggregate_synthetic_samples().items()}
      {3: 20, 5: 10}
    """

    def __init__(self, say: Callable[[str], None] = messages.say, directory: Path | None = None):
        self._say, self._directory = say, directory
        self._received: dict[int, Samples] = {}

    def receive(self, client_id: int, samples: Samples) -> None:
        """Takes a client's samples in the place of its earlier ones."""
        self._received[client_id] = samples

    def aggregate_synthetic_samples(self) -> Samples:
        """class -> the samples of all clients, in the order of their ids."""
        found: dict[int, list[np.ndarray]] = {}
        for client in sorted(self._received):
            for label, samples in self._received[client].items():
                found.setdefault(label, []).append(samples)
        together = {label: joined(found[label], self._directory, label) for label in sorted(found)}
        if together:
            per_class = ", ".join(f"{label}: {len(samples)}" for label, samples in together.items())
            total = sum(len(samples) for samples in together.values())
            self._say(
                f"server: collected {total} samples of {len(self._received)} clients, {len(together)} classes; "
                f"per class {per_class}"
            )
        return together


def training_on_samples(
    task: Task, epochs: int, batch_size: int, learning_rate: float, from_adapters: bool = True
) -> ServerWork:
    """After the aggregation the server trains the global model on the pool of samples, which is its state's.

    `epochs` passes' worth of Adam's steps on batches drawn from the samples that are there, afresh in each round; with
    none there, the model stays as it is.

    Args:
      from_adapters: it goes on from the aggregated adapters, else from its model of the round before.
    """
    optimizer = optax.adam(learning_rate)

    def run(server: Server, update: ClientUpdate, key: Key) -> Server:
        pool, before = server.work
        start = server.params if from_adapters else before
        share = pool.valid / jnp.maximum(jnp.sum(pool.valid), 1.0)
        size = pool.label.shape[0]
        steps = epochs * -(-size // min(batch_size, size))

        def step(carry: tuple[Params, optax.OptState], step_key: Key):
            params, state = carry
            rows = jax.random.choice(step_key, size, (min(batch_size, size),), p=share)
            batch = {"audio": pool.audio[rows], "label": pool.label[rows]}
            gradient = jax.grad(lambda p: task.loss(p, server.model_state, step_key, batch)[0])(params)
            updates, state = optimizer.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), None

        (trained, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), jax.random.split(key, steps))
        there = jnp.sum(pool.valid) > 0
        params = jax.tree.map(lambda new, old: jnp.where(there, new, old), trained, start)
        return server._replace(params=params, work=ServerState(pool, params))

    def start(params: Params) -> ServerState:
        return ServerState(Pool(jnp.zeros((1, 1, 1)), jnp.zeros(1, jnp.int32), jnp.zeros(1)), params)

    return ServerWork(start, run)
