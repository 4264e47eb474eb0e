"""The clients' work: they train their adapters, and each its generator on the same batches."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_aggregation.generators.base import Generator, GeneratorState, Training, new_state, train
from learned_aggregation.types import Batch, ClientWork, Key, Params, Server, Task, Traffic

NUMBER_BITS = 32
_GENERATORS = 2**30
"""Folded into a round's key; far from the clients' 0 .. K-1 and from the round's."""


class Kept(NamedTuple):
    """What is kept of one client: what its adapter's training keeps, its generator and that one's last loss."""

    adapter: Any
    generator: GeneratorState
    loss: Float[Array, ""]


def with_generators(work: ClientWork, generator: Generator, training: Training) -> ClientWork:
    """`work`, and after it each client trains its generator on its batches of the round.

    A client that drops out keeps its generator as it was. The generators never leave their clients: nothing more
    crosses. One client's generator is trained after another's: side by side they would take K times the memory.
    """

    def init(params: Params) -> Kept:
        return Kept(work.init(params), new_state(generator, jax.random.key(0)), jnp.float32(jnp.nan))

    def run(server: Server, batches: Batch, weight: Float[Array, "K"], states: Kept, key: Key):
        update, adapters = work.run(server, batches, weight, states.adapter, key)
        keys = jax.random.split(jax.random.fold_in(key, _GENERATORS), weight.shape[0])
        trained, losses = jax.lax.map(
            lambda one: train(generator, training, *one), (states.generator, batches, keys)
        )
        return update, Kept(adapters, trained, losses)

    def rebuild(task: Task, scale: Params | None = None) -> ClientWork:
        return with_generators(work.rebuild(task, scale), generator, training)

    return ClientWork(init, run, work.traffic, rebuild)


def sending_samples(work: ClientWork, numbers: int) -> ClientWork:
    """`work`, with samples of so many numbers going up with each client's adapter, float32, labels included."""

    def traffic(params: Params) -> Traffic:
        rest = work.traffic(params)
        return Traffic(rest.up + NUMBER_BITS * numbers, rest.down)

    return work._replace(traffic=traffic)
