"""Batches drawn on the device by index: pure functions of the data and a key."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from learned_aggregation.errors import UserError
from learned_aggregation.types import Batch, FederatedData, Key


def sample_cohort(
    data: FederatedData, key: Key, num_clients: int, num_steps: int, batch_size: int
) -> tuple[Batch, Float[Array, "K"], Int[Array, "K"]]:
    """Draws the K clients of a round and the H batches of B examples that each of them trains on.

    The clients are distinct and uniform over the C of the population, unless C is 1: then all K draw from
    the one shared pool. With C = K all take part, each in its own place. A client's examples are uniform over
    its own, with replacement.

    Args:
      data: C clients; traced, so that the data is no constant of the compiled program.
      num_clients, num_steps, batch_size: K, H and B; static.
    Returns:
      The batch, leaves [K, H, B, ...] of the stored dtype; the weights, each client's number of examples;
      the client ids.
    Raises:
      UserError: 1 < C < K, when the function is traced.
    """
    ids = _choose_clients(jax.random.fold_in(key, 1), data.rows.shape[0], num_clients)
    sizes = data.sizes[ids]
    # In a window of a stream a client has fewer rows than examples.
    here = jnp.minimum(sizes, data.rows.shape[1])
    places = integers_below(key, (num_clients, num_steps, batch_size), here[:, None, None])
    rows = data.rows[ids[:, None, None], places]
    return _take(data.examples, rows), sizes.astype(jnp.float32), ids


def sample_batch(data: FederatedData, key: Key, batch_size: int) -> Batch:
    """Draws B examples of the whole split, uniform and with replacement: leaves [B, ...]."""
    count = jax.tree.leaves(data.examples)[0].shape[0]
    rows = integers_below(key, (batch_size,), jnp.int32(count))
    return _take(data.examples, rows)


def integers_below(key: Key, shape: tuple[int, ...], limit: Int[Array, "..."]) -> Int[Array, "..."]:
    """Uniform in [0, limit): the upper half of the 64-bit product of 32 random bits and the limit.

    Even to within limit / 2^32. jax.random.randint draws twice as many bits and divides, which costs several
    times more to compile and to run.
    """
    bits = jax.random.bits(key, shape, jnp.uint32)
    limit = limit.astype(jnp.uint32)
    low, high = bits & 0xFFFF, bits >> 16
    limit_low, limit_high = limit & 0xFFFF, limit >> 16
    middle = high * limit_low + (low * limit_low >> 16)
    carried = low * limit_high + (middle & 0xFFFF)
    return (high * limit_high + (middle >> 16) + (carried >> 16)).astype(jnp.int32)


def _take(examples: dict[str, Array], rows: Int[Array, "..."]) -> Batch:
    """The examples at `rows`, which are in range by construction: no select per pixel for those outside."""
    return jax.tree.map(lambda leaf: leaf.at[rows].get(mode="promise_in_bounds"), examples)


def _choose_clients(key: Key, population: int, num_clients: int) -> Int[Array, "K"]:
    """K distinct client ids; zeros where there is one shared pool, 0..K-1 where all take part."""
    if population == 1:
        return jnp.zeros(num_clients, jnp.int32)
    if population == num_clients:
        return jnp.arange(num_clients)
    if population < num_clients:
        raise UserError(
            f"num_grads: expected at most the population of {population} clients, got {num_clients}. "
            "Lower num_grads, or divide the data over more clients."
        )
    return jax.random.choice(key, population, (num_clients,), replace=False)
