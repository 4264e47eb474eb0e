"""Static freezing: parameters that are not trained, not sent, and that no aggregator sees."""

from typing import Any, NamedTuple

import jax

from learned_aggregation.aggregators.masking import without
from learned_aggregation.types import (
    Batch,
    ClientUpdate,
    ClientWork,
    Key,
    ModelState,
    Params,
    Parts,
    Server,
    Task,
    Traffic,
)


class FrozenState(NamedTuple):
    """The model state of a frozen task: the task's, and the parameters that are frozen (None elsewhere)."""

    inner: ModelState
    frozen: Params


def freeze(parts: Parts, mask: Any) -> Parts:
    """The same round with the masked parameters frozen at their initial values, bit for bit, under every rule.

    They move from params to the model state. So a frozen parameter has no gradient, no delta, no optimizer's state
    and no accumulator, decays under no weight decay, and crosses no wire: not because each part of the round leaves it
    out, but because none of them is given it.

    Args:
      mask: True where a parameter is frozen; see `aggregators.masking.masked`.
    Raises:
      UserError: see `masked`.
    """
    task = freeze_task(parts.task, mask)
    clients = _restoring(parts.clients.rebuild(task, None), parts.clients)
    return parts._replace(task=task, clients=clients)


def freeze_task(task: Task, mask: Any) -> Task:
    """The task whose params are those that are not masked (None elsewhere); the others are in its model state."""

    def init(key: Key) -> tuple[Params, FrozenState]:
        params, inner = task.init(key)
        frozen = jax.tree.map(lambda hidden: not hidden, mask)
        return without(mask, params), FrozenState(inner, without(frozen, params))

    def loss(params: Params, model_state: FrozenState, key: Key, batch: Batch):
        value, (inner, metrics) = task.loss(whole(params, model_state.frozen), model_state.inner, key, batch)
        return value, (model_state._replace(inner=inner), metrics)

    def evaluate(params: Params, model_state: FrozenState, key: Key, batch: Batch):
        return task.evaluate(whole(params, model_state.frozen), model_state.inner, key, batch)

    def features(params: Params, model_state: FrozenState, batch: Batch):
        assert task.features is not None
        return task.features(whole(params, model_state.frozen), model_state.inner, batch)

    there = None if task.features is None else features
    return task._replace(init=init, loss=loss, evaluate=evaluate, features=there)


def whole(params: Params, frozen: Params) -> Params:
    """All parameters: those that move, and the frozen ones where these are None."""
    return jax.tree.map(
        lambda moving, still: still if moving is None else moving,
        params,
        frozen,
        is_leaf=lambda node: node is None,
    )


def _restoring(work: ClientWork, unfrozen: ClientWork) -> ClientWork:
    """The work on a frozen task: its mean over clients of what is frozen is not taken, nor is it sent."""

    def run(server: Server, batches: Batch, weight: Any, states: Any, key: Key) -> tuple[ClientUpdate, Any]:
        update, states = work.run(server, batches, weight, states, key)
        state = update.model_state._replace(frozen=server.model_state.frozen)
        return update._replace(model_state=state), states

    def traffic(params: Params) -> Traffic:
        return unfrozen.traffic(params)

    def rebuild(task: Task, scale: Params | None = None) -> ClientWork:
        return _restoring(work.rebuild(task, scale), unfrozen)

    return ClientWork(work.init, run, traffic, rebuild)
