"""One client's training: H local steps from the server's parameters."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from learned_aggregation.types import Batch, Key, ModelState, Params, Task


class LocalTraining(NamedTuple):
    """One client's training.

    init: params -> client state carried over rounds; () when every round starts afresh.
    run: (params, model_state, client_state, key, batches [H, B, ...]) ->
      (delta, model_state, client_state, mean loss []).
    task: what is trained.
    rebuild: (task, scale) -> the same training of another task, each update times `scale`; see `ClientWork`.
    """

    init: Callable[[Params], Any]
    run: Callable[[Params, ModelState, Any, Key, Batch], tuple[Params, ModelState, Any, Float[Array, ""]]]
    task: Task
    rebuild: Callable[[Task, Params | None], "LocalTraining"]


def local_training(
    task: Task, optimizer: optax.GradientTransformation, keep_state: bool = False, remat: bool = False
) -> LocalTraining:
    """H steps of `optimizer` on the task's loss, as one scan (the program's size does not grow with H).

    W_k <- W_k + optimizer(grad loss(W_k, batch_h)), h = 1..H;  delta = W_k - W. Each step's loss is
    measured before the step.

    Args:
      keep_state: the optimizer's state outlives the round (DiLoCo's workers) instead of starting afresh.
      remat: a gradient THROUGH local training (truncated backpropagation) keeps each step's parameters and computes
        the rest again; other meta-gradients don't notice.
    """
    gradient = jax.value_and_grad(task.loss, has_aux=True)

    def init(params: Params) -> Any:
        return optimizer.init(params) if keep_state else ()

    def run(params: Params, model_state: ModelState, client_state: Any, key: Key, batches: Batch):
        def step(carry, inputs):
            local, model_state, opt_state = carry
            batch, step_key = inputs
            (loss, (model_state, _)), grads = gradient(local, model_state, step_key, batch)
            updates, opt_state = optimizer.update(grads, opt_state, local)
            return (optax.apply_updates(local, updates), model_state, opt_state), loss

        step = jax.checkpoint(step) if remat else step
        num_steps = jax.tree.leaves(batches)[0].shape[0]
        start = (params, model_state, client_state if keep_state else optimizer.init(params))
        (local, model_state, opt_state), losses = jax.lax.scan(
            step, start, (batches, jax.random.split(key, num_steps))
        )
        delta = jax.tree.map(jnp.subtract, local, params)
        return delta, model_state, opt_state if keep_state else (), jnp.mean(losses)

    def rebuild(task: Task, scale: Params | None = None) -> LocalTraining:
        scaled = optimizer if scale is None else with_rates(optimizer, scale)
        return local_training(task, scaled, keep_state, remat)

    return LocalTraining(init, run, task, rebuild)


def with_rates(optimizer: optax.GradientTransformation, rates: Params) -> optax.GradientTransformation:
    """The optimizer with a rate for each tensor: its updates times `rates`; 1 leaves no trace in the program.

    Args:
      rates: numbers, or schedules: the count of updates so far -> a number, as optax has them.
    """

    def at(count: Any, updates: Params) -> Params:
        def one(rate: Any, leaf: Array | None):  # None where a parameter is frozen
            rate = rate(count) if leaf is not None and callable(rate) else rate
            return leaf if leaf is None or _is_one(rate) else rate * leaf

        return jax.tree.map(one, rates, updates)

    if not any(callable(rate) for rate in jax.tree.leaves(rates)):
        return optax.chain(optimizer, optax.stateless(lambda updates, params: at(None, updates)))

    def update(updates: Params, state: Any, params: Params | None = None):
        return at(state, updates), state + 1

    counted = optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update)
    return optax.chain(optimizer, counted)


def _is_one(rate: float | Array) -> bool:
    return isinstance(rate, float) and rate == 1.0
