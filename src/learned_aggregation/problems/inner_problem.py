"""An inner problem: a task trained by federated rounds, as estimators and the meta-tester see it."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from learned_aggregation.data.sampling import sample_batch, sample_cohort
from learned_aggregation.federated.round import federated_round, init_server
from learned_aggregation.types import (
    Batch,
    FederatedData,
    InnerProblem,
    Key,
    Parts,
    Server,
    Task,
    Theta,
)

SAME_DATA = "same_data"

Datas = Mapping[str, FederatedData]
"""A problem's splits by name."""


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


class Cohort(NamedTuple):
    """What a round trains on: batches [K, H, B, ...], weight [K], and the clients' places in the population [K]."""

    batches: Batch
    weight: Float[Array, "K"]
    ids: Int[Array, "K"]


def draw_round(data: FederatedData, key: Key, sizes: RoundSizes) -> Cohort:
    """The cohort of a round, at random.

    Clients that drop out have weight 0; one, drawn at random, never does.
    """
    batches, weight, ids = sample_cohort(data, key, *sizes[:3])
    if sizes.dropout:
        drop_key, keep_key = jax.random.split(jax.random.fold_in(key, 2))
        stays = jax.random.bernoulli(drop_key, 1.0 - sizes.dropout, weight.shape)
        stays = stays.at[jax.random.randint(keep_key, (), 0, sizes.num_grads)].set(True)
        weight = jnp.where(stays, weight, 0.0)
    return Cohort(batches, weight, ids)


def population(data: FederatedData, num_grads: int) -> int:
    """C, the clients that keep a state: those that the data is divided over; K of them share one pool."""
    clients = data.rows.shape[0]
    return num_grads if clients == 1 else clients


def normalise_loss(loss: Float[Array, ""], cap: float | None) -> Float[Array, ""]:
    """NaN becomes `cap` and the value is clipped to [0, cap]; without a cap the loss as it is.

    So that one diverging problem cannot drown the others. Source: Joseph et al., 2025, arXiv:2312.02204.
    """
    if cap is None:
        return loss
    return jnp.clip(jnp.where(jnp.isnan(loss), cap, loss), 0.0, cap)


def split_loss(task: Task, server: Server, key: Key, batch: Batch) -> Float[Array, ""]:
    """The mean loss of the server's model on a batch, in test mode."""
    return jnp.mean(task.evaluate(server.params, server.model_state, key, batch)["loss"])


def inner_problem(parts: Parts, sizes: RoundSizes, meta_loss_split: str | None) -> InnerProblem:
    """`parts.task` trained by rounds of `parts`; how a problem starts and moves on is said here alone.

    The data argument is {split name: FederatedData}.

    Args:
      meta_loss_split: None for the round's training loss; "same_data" for the loss on the round's own
        K*H*B examples after the aggregation; a split's name for K*B fresh examples of it, after the
        aggregation. The round's meta-loss is normalised (`normalise_loss`).
    """
    measure = _meta_loss(parts.task, sizes, meta_loss_split)

    def reset(theta: Theta, datas: Datas, key: Key) -> Server:
        params, model_state = parts.task.init(key)
        clients = population(datas["train"], sizes.num_grads)
        return init_server(theta, parts, params, model_state, clients)

    def advance(theta: Theta, server: Server, datas: Datas, key: Key):
        cohort_key, train_key, measure_key = jax.random.split(key, 3)
        cohort = draw_round(datas["train"], cohort_key, sizes)
        server, train_loss = federated_round(theta, parts, server, *cohort, train_key)
        meta_loss = measure(server, train_loss, cohort.batches, datas, measure_key)
        return server, normalise_loss(meta_loss, parts.task.loss_cap)

    return InnerProblem(reset, advance)


def training_problem(parts: Parts, sizes: RoundSizes) -> InnerProblem:
    """The inner problem whose losses are the rounds' training losses, as they are: what a meta-test runs."""
    return inner_problem(parts._replace(task=parts.task._replace(loss_cap=None)), sizes, None)


def _meta_loss(task: Task, sizes: RoundSizes, split: str | None) -> Callable[..., Float[Array, ""]]:
    def training(server: Server, train_loss: Any, batches: Batch, datas: Datas, key: Key):
        return train_loss

    def same_data(server: Server, train_loss: Any, batches: Batch, datas: Datas, key: Key):
        return split_loss(task, server, key, jax.tree.map(lambda x: x.reshape(-1, *x.shape[3:]), batches))

    def fresh(server: Server, train_loss: Any, batches: Batch, datas: Datas, key: Key):
        batch = sample_batch(datas[str(split)], key, sizes.num_grads * sizes.local_batch_size)
        return split_loss(task, server, jax.random.fold_in(key, 1), batch)

    return training if split is None else same_data if split == SAME_DATA else fresh
