"""An inner problem: a task trained by federated rounds, as estimators and the meta-tester see it."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_aggregation.data.sampling import sample_batch, sample_cohort
from learned_aggregation.federated.local_training import LocalTraining
from learned_aggregation.federated.round import ServerState, federated_round, init_server
from learned_aggregation.types import (
    Aggregator,
    Batch,
    FederatedData,
    InnerProblem,
    Key,
    Task,
    Theta,
)

SAME_DATA = "same_data"


class RoundSizes(NamedTuple):
    """K clients, H local steps, B examples a local step; dropout: probability that a client drops out."""

    num_grads: int
    num_local_steps: int
    local_batch_size: int
    dropout: float = 0.0

    @property
    def examples(self) -> int:
        """Examples that a round takes: K*H*B."""
        return self.num_grads * self.num_local_steps * self.local_batch_size


def draw_round(data: FederatedData, key: Key, sizes: RoundSizes) -> tuple[Batch, Float[Array, "K"]]:
    """The batches [K, H, B, ...] and the weights [K] of a round's cohort.

    Clients that drop out have weight 0; one, drawn at random, never does.
    """
    batches, weight, _ = sample_cohort(data, key, *sizes[:3])
    if sizes.dropout:
        drop_key, keep_key = jax.random.split(jax.random.fold_in(key, 2))
        stays = jax.random.bernoulli(drop_key, 1.0 - sizes.dropout, weight.shape)
        stays = stays.at[jax.random.randint(keep_key, (), 0, sizes.num_grads)].set(True)
        weight = jnp.where(stays, weight, 0.0)
    return batches, weight


def normalise_loss(loss: Float[Array, ""], cap: float | None) -> Float[Array, ""]:
    """NaN becomes `cap` and the value is clipped to [0, cap]; without a cap the loss as it is.

    So that one diverging problem cannot drown the others. Source: Joseph et al., 2025, arXiv:2312.02204.
    """
    if cap is None:
        return loss
    return jnp.clip(jnp.where(jnp.isnan(loss), cap, loss), 0.0, cap)


def split_loss(task: Task, server: ServerState, key: Key, batch: Batch) -> Float[Array, ""]:
    """The mean loss of the server's model on a batch, in test mode."""
    return jnp.mean(task.evaluate(server.params, server.model_state, key, batch)["loss"])


def inner_problem(
    task: Task, local: LocalTraining, aggregator: Aggregator, sizes: RoundSizes, meta_loss_split: str | None
) -> InnerProblem:
    """Trains `task` with `aggregator`; the data argument is {split name: FederatedData}.

    Args:
      meta_loss_split: None for the round's training loss; "same_data" for the loss on the round's own
        K*H*B examples after the aggregation; a split's name for K*B fresh examples of it, after the
        aggregation. The round's meta-loss is normalised (`normalise_loss`).
    """
    measure = _meta_loss(task, sizes, meta_loss_split)

    def reset(theta: Theta, data: dict[str, FederatedData], key: Key) -> ServerState:
        params, model_state = task.init(key)
        return init_server(theta, aggregator, local, params, model_state, sizes.num_grads)

    def advance(theta: Theta, state: ServerState, data: dict[str, FederatedData], key: Key):
        cohort_key, train_key, measure_key = jax.random.split(key, 3)
        batches, weight = draw_round(data["train"], cohort_key, sizes)
        state, train_loss = federated_round(theta, aggregator, local, state, batches, weight, train_key)
        meta_loss = measure(state, train_loss, batches, data, measure_key)
        return state, normalise_loss(meta_loss, task.loss_cap)

    return InnerProblem(reset, advance)


def _meta_loss(task: Task, sizes: RoundSizes, split: str | None) -> Callable[..., Float[Array, ""]]:
    def training(state, train_loss, batches, data, key):
        return train_loss

    def same_data(state, train_loss, batches, data, key):
        return split_loss(task, state, key, jax.tree.map(lambda x: x.reshape(-1, *x.shape[3:]), batches))

    def fresh(state, train_loss, batches, data, key):
        batch = sample_batch(data[split], key, sizes.num_grads * sizes.local_batch_size)
        return split_loss(task, state, jax.random.fold_in(key, 1), batch)

    return training if split is None else same_data if split == SAME_DATA else fresh
