"""Google's learned_optimization: an aggregator as its `LearnedOptimizer`, its `Task`s as our inner problems.

For the released package (0.0.1), installed without its pins; see docs/integrations.md.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int
from learned_optimization.learned_optimizers import base as lopt_base  # pyright: ignore[reportMissingImports]
from learned_optimization.optimizers import base as opt_base  # pyright: ignore[reportMissingImports]

from learned_aggregation.data.federated import to_federated
from learned_aggregation.errors import UserError
from learned_aggregation.pretrained.drop_in import DropIn
from learned_aggregation.types import (
    SPLITS,
    AggState,
    Batch,
    FederatedData,
    Key,
    Metrics,
    ModelState,
    Params,
    Split,
    Task,
    Theta,
)


class OptimizerState(NamedTuple):
    """What learned_optimization hands from step to step: params and model state by its names, and ours."""

    params: Params
    state: ModelState
    agg_state: AggState
    iteration: Int[Array, ""]


class AggregatorOptimizer(opt_base.Optimizer):
    """An aggregator as learned_optimization's `Optimizer`: one round per step; see `to_learned_optimizer`."""

    def __init__(self, agg: DropIn, learning_rate: Any, stacked: bool):
        self._agg, self._learning_rate, self._stacked = agg, learning_rate, stacked

    def init(
        self,
        params: Params,
        model_state: ModelState = None,
        num_steps: int | None = None,
        key: Any = None,
        **_: Any,
    ) -> OptimizerState:
        return OptimizerState(params, model_state, self._agg.init(params), jnp.int32(0))

    def update(
        self,
        opt_state: OptimizerState,
        grad: Params,
        loss: Any = None,
        model_state: ModelState = None,
        key: Any = None,
        **_: Any,
    ) -> OptimizerState:
        agg, params = self._agg, opt_state.params
        delta = jax.tree.map(lambda g: -self._learning_rate * jnp.asarray(g, jnp.float32), grad)
        if self._stacked:
            params, agg_state = agg.update(params, delta, None, opt_state.agg_state)
        else:
            step, agg_state = agg.step_from_mean(params, delta, opt_state.agg_state)
            params = jax.tree.map(lambda p, s: jnp.asarray(p + s, jnp.result_type(p)), params, step)
        return OptimizerState(params, model_state, agg_state, opt_state.iteration + 1)

    @property
    def name(self) -> str:
        return f"{type(self).__name__}_{self._agg.name}_lr{self._learning_rate}"


class AggregatorLearnedOptimizer(lopt_base.LearnedOptimizer):
    """An aggregator as learned_optimization's `LearnedOptimizer`; see `to_learned_optimizer`."""

    def __init__(self, agg: DropIn, learning_rate: Any, stacked: bool):
        self._agg, self._learning_rate, self._stacked = agg, learning_rate, stacked

    def init(self, rng: Key) -> Theta:
        return self._agg.rule.init_theta(rng)

    def opt_fn(self, theta: Theta = None, is_training: bool = False) -> AggregatorOptimizer:
        agg = self._agg if theta is None else self._agg.with_theta(theta)
        return AggregatorOptimizer(agg, self._learning_rate, self._stacked)


def to_learned_optimizer(
    agg: DropIn, *, learning_rate: Any = 1.0, stacked: bool = False
) -> AggregatorLearnedOptimizer:
    """The aggregator for learned_optimization's training loops and outer trainers.

        lopt = to_learned_optimizer(load_aggregator("lopt-a-h4"), learning_rate=0.5)
        opt = lopt.opt_fn()                       # with the loaded theta; opt_fn(theta) with another
        opt_state = opt.init(params)
        opt_state = opt.update(opt_state, gradient, loss=loss)

    A gradient stands for a round in which the clients took one local step of SGD at `learning_rate`: the delta is
    -learning_rate * gradient. Pass learning_rate 1 for a pseudo-gradient (server minus clients).

    Args:
      agg: from `load_aggregator`, or a DropIn of any registered rule.
      stacked: gradients have a leading axis over the K clients; needed by an aggregator for fixed K.
    Returns:
      A LearnedOptimizer: `init(key)` is a fresh theta to meta-train, `opt_fn(theta)` the Optimizer with it.
    """
    return AggregatorLearnedOptimizer(agg, learning_rate, stacked)


def from_task(
    task: Any, *, num_batches: int = 256, num_clients: int = 1
) -> tuple[Task, dict[str, FederatedData]]:
    """A learned_optimization Task as an inner problem of ours, with its data.

    Its iterators go on for ever and our rounds draw by index, so `num_batches` of each split are drawn once and
    put on the device. One of its batches is one example of ours: a local batch size of B takes B of its batches
    and the mean of their losses; 1 is what the task was written for. What its `normalizer` makes of an infinite loss
    bounds the meta-loss.

    Args:
      task: an instance of learned_optimization's Task.
      num_clients: the training batches are divided evenly over so many clients; 1 shares them all.
    Returns:
      (task, {split: data}) for `inner_problem`, whose `reset` and `advance` take this data.
    Raises:
      UserError: fewer batches than clients, or batches of different shapes.
    """
    if not 1 <= num_clients <= num_batches:
        raise UserError(
            f"from_task: expected num_clients from 1 to num_batches, {num_batches}, got {num_clients}. "
            "Raise num_batches."
        )
    drawn = {split: _draw(task, split, num_batches) for split in SPLITS}
    structure = jax.tree.structure(drawn["train"][0])
    data = {}
    for split, batches in drawn.items():
        clients = num_clients if split == "train" else 1
        data[split] = to_federated(
            _stack(task.name, batches), np.array_split(np.arange(num_batches), clients)
        )

    # Our rounds average the clients' model state; counters in it are carried as floats.
    dtypes = jax.tree.map(
        lambda leaf: leaf.dtype, jax.eval_shape(task.init_with_state, jax.random.PRNGKey(0))[1]
    )

    def one(params: Params, state: ModelState, key: Key, example: Batch):
        batch = structure.unflatten([example[str(i)] for i in range(structure.num_leaves)])
        state = jax.tree.map(_as_dtype, state, dtypes)
        # The package is older than typed keys.
        loss, state, aux = task.loss_with_state_and_aux(params, state, jax.random.key_data(key), batch)
        return loss, (_as_floats(state), dict(aux))

    def init(key: Key) -> tuple[Params, ModelState]:
        params, state = task.init_with_state(jax.random.key_data(key))
        return params, _as_floats(state)

    def loss(params: Params, model_state: ModelState, key: Key, batch: Batch):
        keys = jax.random.split(key, jax.tree.leaves(batch)[0].shape[0])
        losses, aux = jax.vmap(one, in_axes=(None, None, 0, 0))(params, model_state, keys, batch)
        return jnp.mean(losses), jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), aux)

    def evaluate(params: Params, model_state: ModelState, key: Key, batch: Batch) -> Metrics:
        losses, _ = jax.vmap(lambda example: one(params, model_state, key, example))(batch)
        return {"loss": losses}

    cap = float(task.normalizer(jnp.float32(jnp.inf)))
    return Task(task.name, init, loss, evaluate, cap if math.isfinite(cap) else None), data


def _as_floats(state: ModelState) -> ModelState:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf, jnp.float32)), state)


def _as_dtype(leaf: Array, dtype: Any) -> Array:
    return jnp.round(leaf).astype(dtype) if jnp.issubdtype(dtype, jnp.integer) else leaf.astype(dtype)


def _draw(task: Any, split: str, num_batches: int) -> list[Any]:
    if task.datasets is None:
        return [()] * num_batches
    iterator = task.datasets.split(split)
    return [next(iterator) for _ in range(num_batches)]


def _stack(where: str, batches: list[Any]) -> Split:
    """Batches of one structure as examples "0", "1", ..., one for each leaf; without data, a column of zeros."""
    leaves = [[np.asarray(leaf) for leaf in jax.tree.leaves(batch)] for batch in batches]
    first = [leaf.shape for leaf in leaves[0]]
    other = next((batch for batch in leaves if [leaf.shape for leaf in batch] != first), None)
    if other is not None:
        raise UserError(
            f"{where}: expected batches of equal shapes, got {first} and {[leaf.shape for leaf in other]}. "
            "Drop the incomplete batches of the task's iterators."
        )
    columns = {str(i): np.stack(column) for i, column in enumerate(zip(*leaves, strict=True))}
    return Split(columns or {"none": np.zeros(len(batches), np.float32)})
