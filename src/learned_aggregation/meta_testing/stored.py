"""Fields of the training examples that each job computes once: what its model's frozen layers make of them."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
from jax.sharding import Mesh

from learned_aggregation.devices.parallel import compiler_options, map_jobs
from learned_aggregation.errors import UserError
from learned_aggregation.types import Batch, FederatedData, Params, Server

AT_ONCE = 64
"""Examples computed at once."""


class Stored(NamedTuple):
    """What is computed, of which part of the server's model, and how large it may be.

    model: server -> the parameters that `fields` reads, the same in all phases that store it; leaves may begin with
      axes of their own.
    fields: (params, batch) -> further fields of the batch, leaves [B, ...].
    where, limit_mb: the setting that asked for it, and megabytes that it may take on a device.
    """

    model: Callable[[Server], Params]
    fields: Callable[[Params, Batch], Batch]
    where: str
    limit_mb: int


def storing(stored: Stored, mesh: Mesh, chunk: int | None) -> Callable[[FederatedData, Server], Batch]:
    """(data, servers of all jobs) -> the fields of all its examples, leaves [jobs, N, ...]; compiled once."""
    mapped = jax.jit(_mapped(stored, mesh, chunk), compiler_options=compiler_options())
    return lambda data, servers: mapped(data.examples, stored.model(servers))


def _mapped(stored: Stored, mesh: Mesh, chunk: int | None) -> Callable[[Batch, Params], Batch]:
    def job(examples: Batch, model: Params) -> Batch:
        def one(example: Batch) -> Batch:
            found = stored.fields(model, jax.tree.map(lambda leaf: leaf[None], example))
            return jax.tree.map(lambda leaf: leaf[0], found)

        return jax.lax.map(one, examples, batch_size=AT_ONCE)

    return map_jobs(job, mesh, chunk)


def check_size(stored: Stored, mesh: Mesh, data: FederatedData, servers: Server) -> None:
    """Refuses fields that are too large, before anything is computed.

    Args:
      servers: of all jobs, or their shapes.
    Raises:
      UserError: naming the sizes.
    """
    models = jax.eval_shape(stored.model, servers)
    found = jax.eval_shape(_mapped(stored, mesh, None), data.examples, models)
    leaves = jax.tree.leaves(found)
    jobs, examples = leaves[0].shape[:2]
    total = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)
    here = total / mesh.size / 2**20
    if here > stored.limit_mb:
        raise UserError(
            f"{stored.where}: expected at most device_data_mb, {stored.limit_mb}, on a device, got "
            f"{math.ceil(here)} MB: {jobs} runs at once x {examples} examples x {total / jobs / examples / 1024:.1f} "
            "KB. Raise device_data_mb, run fewer seeds, or leave it out."
        )
