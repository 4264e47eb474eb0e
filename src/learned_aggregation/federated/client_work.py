"""Client work: what a cohort does. `independently`: each of its clients trains by itself."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_aggregation.devices.parallel import map_clients
from learned_aggregation.federated.averaging import weighted_mean
from learned_aggregation.federated.client_order import in_turn
from learned_aggregation.federated.local_training import LocalTraining
from learned_aggregation.types import (
    Batch,
    ClientUpdate,
    ClientWork,
    Key,
    Params,
    Server,
    Task,
    Traffic,
)


def independently(local: LocalTraining) -> ClientWork:
    """Every client of the cohort trains from the server's model; of their model states the server takes the mean.

    Traffic besides model and delta: the model's state, whole, both ways.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> from learned_aggregation import Task
      >>> from learned_aggregation.federated.local_training import local_training
      >>> square = lambda params, state, key, batch: (jnp.mean((params - batch) ** 2), (state, {}))
      >>> measure = lambda params, state, key, batch: {"loss": (params - batch) ** 2}
      >>> task = Task("square", lambda key: (jnp.zeros(()), ()), square, measure, None)
      >>> work = independently(local_training(task, optax.sgd(0.25)))
      >>> work.traffic(jnp.zeros(()))
      Traffic(up=0.0, down=0.0)
    """

    def run(server: Server, batches: Batch, weight: Float[Array, "K"], states: Any, key: Key):
        keys = jax.random.split(key, weight.shape[0])
        delta, model_state, states, loss = map_clients(
            lambda model, one: local.run(*model, *one),
            (server.params, server.model_state),
            (states, keys, batches),
            in_turn(local.task, server, batches, key),
        )
        model_state = jax.tree.map(
            lambda leaf, before: jnp.where(_present(weight, before.ndim), leaf, before),
            model_state,
            server.model_state,
        )
        return ClientUpdate(delta, weighted_mean(model_state, weight), loss, weight), states

    def traffic(params: Params) -> Traffic:
        _, model_state = jax.eval_shape(local.task.init, jax.random.key(0))
        bits = float(
            sum(8 * leaf.dtype.itemsize * math.prod(leaf.shape) for leaf in jax.tree.leaves(model_state))
        )
        return Traffic(bits, bits)

    def rebuild(task: Task, scale: Params | None = None) -> ClientWork:
        return independently(local.rebuild(task, scale))

    return ClientWork(local.init, run, traffic, rebuild)


def _present(weight: Float[Array, "K"], ndim: int) -> Array:
    """[K, 1, ...]: which clients did not drop out, beside leaves [K, ...] of `ndim` more axes."""
    return (weight > 0).reshape(-1, *[1] * ndim)
