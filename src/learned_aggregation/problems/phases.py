"""Phases of a run: the parts of a round that FreezeOut makes between two changes, and the way from one to the next."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_aggregation.aggregators.masking import without
from learned_aggregation.errors import UserError
from learned_aggregation.federated.round import init_server
from learned_aggregation.problems.freezeout import FreezeOut, layer_indices, rate_factor
from learned_aggregation.problems.freezing import FrozenState, freeze, whole
from learned_aggregation.types import (
    Batch,
    ClientState,
    ClientUpdate,
    ClientWork,
    Key,
    ModelState,
    Params,
    Parts,
    Server,
    Task,
    Theta,
    Traffic,
)


class Length(NamedTuple):
    """Of a run: its rounds and H, the local steps of one."""

    rounds: int
    local_steps: int


class ScheduledState(NamedTuple):
    """The model state of a task whose clients know where in the run they are: the task's, and the local steps done."""

    inner: ModelState
    step: Float[Array, ""]


def freezeout(parts: Parts, plan: FreezeOut, length: Length, frozen: int) -> Parts:
    """The round with the layers below `frozen` frozen, the others' rates on their schedules.

    Args:
      parts: of a vision transformer, before any freezing.
    Raises:
      UserError: another model.
    """
    params, _ = jax.eval_shape(parts.task.init, jax.random.key(0))
    indices, layers = layer_indices(params, plan)

    def factors(start: Array) -> Params:
        def schedule(layer: int):
            # A kept optimizer's count goes on over rounds; each round has H steps.
            return lambda count: rate_factor(
                plan, layer, layers, start + count % length.local_steps, length.rounds * length.local_steps
            )

        return jax.tree.map(schedule, indices)

    return _scheduled(freeze(parts, frozen_mask(indices, frozen)), factors, length.local_steps)


def frozen_mask(indices: Any, frozen: int) -> Any:
    """True for the tensors of the layers below `frozen`."""
    return jax.tree.map(lambda layer: layer < frozen, indices)


def enter(
    theta: Theta, parts: Parts, plan: FreezeOut, frozen: int, server: Server, population: int
) -> Server:
    """The server of one phase as that of the next, whose parts these are: nothing moves, newly frozen layers leave.

    From whatever is kept for each parameter (accumulators, clients' optimizer states, feedback) theirs is taken out.

    Raises:
      UserError: a state of a rule, of clients or of a compressor that is kept in another form than params'.
    """
    state: ScheduledState = server.model_state
    all_params = whole(server.params, state.inner.frozen)
    mask = frozen_mask(layer_indices(all_params, plan)[0], frozen)
    shown = jax.tree.map(lambda hidden: not hidden, mask)
    kept = FrozenState(state.inner.inner, without(shown, all_params))
    after = Server(
        without(mask, all_params),
        state._replace(inner=kept),
        _in_a_row_dropped(mask, server.params, server.agg_state),
        ClientState(
            dropped(mask, server.clients.work),
            _in_a_row_dropped(mask, server.params, server.clients.feedback),
        ),
        _in_a_row_dropped(mask, server.params, server.feedback),
        dropped(mask, server.work),
    )
    wanted = jax.eval_shape(lambda: init_server(theta, parts, after.params, after.model_state, population))
    found = jax.eval_shape(lambda: after)
    others = [name for name in Server._fields if _form(getattr(found, name)) != _form(getattr(wanted, name))]
    if others:
        raise UserError(
            "freezing: expected states of the rule, the clients and the compressors in the form of the parameters, "
            f"from which a frozen layer's can be taken out, got another form in {', '.join(others)}. Leave freezing "
            "out, or choose another rule, local optimizer or compressor."
        )
    return after


def _form(tree: Any) -> tuple[Any, list[Any]]:
    return jax.tree.structure(tree), [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]


def all_params(server: Server) -> Params:
    """The server's whole model, frozen layers too; of a round without phases its params."""
    state = server.model_state
    return whole(server.params, state.inner.frozen) if isinstance(state, ScheduledState) else server.params


def dropped(mask: Any, state: Any) -> Any:
    """A state without what it keeps for masked parameters: every part of it that has the form of params loses them."""

    def fits(node: Any) -> bool:
        try:
            jax.tree.map(lambda flag, part: None, mask, node)
        except (ValueError, TypeError, KeyError):
            return False
        return True

    def one(node: Any) -> Any:
        # Nothing at all in the place of a tensor, whatever is kept for it: as a state that starts without it has it.
        return jax.tree.map(lambda hidden, part: None if hidden else part, mask, node) if fits(node) else node

    return jax.tree.map(one, state, is_leaf=fits)


def _in_a_row_dropped(mask: Any, params: Params, state: Any) -> Any:
    """`dropped`, of a state with tuples that have an item for each tensor of params, in their order.

    Learned rules keep such tuples, and compressors that remember something of each tensor.

    Args:
      params: of the phase before, None where they were frozen already.
    """
    leaves = jax.tree.leaves(params, is_leaf=lambda node: node is None)
    hidden = [flag for flag, leaf in zip(jax.tree.leaves(mask), leaves, strict=True) if leaf is not None]

    def in_a_row(node: Any) -> bool:
        return type(node) is tuple and len(node) == len(hidden)

    def one(node: Any) -> Any:
        if not in_a_row(node):
            return node
        return tuple(item for flag, item in zip(hidden, node, strict=True) if not flag)

    return dropped(mask, jax.tree.map(one, state, is_leaf=in_a_row))


def _scheduled(parts: Parts, factors: Any, local_steps: int) -> Parts:
    """The parts with each tensor's local updates times `factors(local steps done before the round)`, schedules."""
    frozen_task = parts.task

    def init(key: Key) -> tuple[Params, ScheduledState]:
        params, inner = frozen_task.init(key)
        return params, ScheduledState(inner, jnp.zeros(()))

    def loss(params: Params, model_state: ScheduledState, key: Key, batch: Batch):
        value, (inner, metrics) = frozen_task.loss(params, model_state.inner, key, batch)
        return value, (model_state._replace(inner=inner), metrics)

    def evaluate(params: Params, model_state: ScheduledState, key: Key, batch: Batch):
        return frozen_task.evaluate(params, model_state.inner, key, batch)

    def features(params: Params, model_state: ScheduledState, batch: Batch):
        assert frozen_task.features is not None
        return frozen_task.features(params, model_state.inner, batch)

    there = None if frozen_task.features is None else features
    task = frozen_task._replace(init=init, loss=loss, evaluate=evaluate, features=there)
    return parts._replace(task=task, clients=_in_steps(parts.clients, frozen_task, factors, local_steps))


def _in_steps(work: ClientWork, task: Task, factors: Any, local_steps: int) -> ClientWork:
    def run(server: Server, batches: Batch, weight: Any, states: Any, key: Key) -> tuple[ClientUpdate, Any]:
        state: ScheduledState = server.model_state
        paced = work.rebuild(task, factors(state.step))
        update, states = paced.run(server._replace(model_state=state.inner), batches, weight, states, key)
        after = ScheduledState(update.model_state, state.step + local_steps)
        return update._replace(model_state=after), states

    def init(params: Params) -> Any:
        return work.rebuild(task, factors(jnp.zeros(()))).init(params)

    def traffic(params: Params) -> Traffic:
        return work.traffic(params)

    def rebuild(other: Task, scale: Params | None = None) -> ClientWork:
        raise UserError(
            "freezing: expected it around all other changes of a round, got one around it. Freeze last."
        )

    return ClientWork(init, run, traffic, rebuild)
