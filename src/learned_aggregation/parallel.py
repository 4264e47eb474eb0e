"""Devices, and the map over independent jobs (inner problems, seeds, sweep points) that uses them."""

import contextlib
import math
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from learned_aggregation.errors import UserError

JOBS = "jobs"
"""The mesh axis that independent jobs are divided over."""


def use_devices(num_devices: int | None) -> None:
    """Makes JAX's CPU backend offer one host device a core (or `num_devices`).

    Call before the first computation; later it changes nothing. Intra-op threads hardly help at these sizes;
    host devices do.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # Once JAX runs, its devices are what they are; `job_mesh` says so if they are too few.
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", num_devices or cores)


def use_compilation_cache(directory: str | os.PathLike) -> None:
    """Keeps compiled programs in `directory`, so that the next run of the same shapes starts at once."""
    jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def compiler_options() -> dict[str, int]:
    """For `jax.jit`. On a CPU, LLVM's first level compiles the outer step in 3.6 s instead of 5.9; it runs as fast."""
    return {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else {}


def job_mesh(num_jobs: int, num_devices: int | None = None) -> Mesh:
    """A mesh over `num_devices` devices, or over as many as there are and as divide `num_jobs`.

    Raises:
      UserError: fewer devices than asked for, or a number that does not divide the jobs.
    """
    available, processes = len(jax.devices()), jax.process_count()
    if num_devices is None:
        fits = [n for n in range(processes, available + 1, processes) if num_jobs % n == 0]
        num_devices = max(fits, default=processes)
    elif num_devices > available:
        raise UserError(
            f"num_devices: expected at most {available}, the devices there are, got {num_devices}. "
            "Lower it, or leave it out to use all."
        )
    if num_jobs % num_devices or num_devices % processes:
        raise UserError(
            f"num_devices: expected a divisor of {num_jobs}, the number of parallel problems, and a multiple of "
            f"{processes}, the number of processes, got {num_devices}. Change num_devices or num_tasks."
        )
    each = num_devices // processes
    of_process = [[d for d in jax.devices() if d.process_index == p][:each] for p in range(processes)]
    devices = [device for own in of_process for device in own]
    return jax.make_mesh((num_devices,), (JOBS,), (AxisType.Auto,), devices=devices)


def jobs_at_once(asked: int | None) -> int | None:
    """How many jobs a device computes side by side: `asked`, or 1 on a CPU (caches) and all on a GPU."""
    return asked or (1 if jax.default_backend() == "cpu" else None)


def over_jobs(mesh: Mesh) -> NamedSharding:
    """The sharding of arrays whose leading axis is the jobs."""
    return NamedSharding(mesh, P(JOBS))


def everywhere(mesh: Mesh) -> NamedSharding:
    """The sharding of arrays that every device holds whole."""
    return NamedSharding(mesh, P())


def put(tree: Any, sharding: NamedSharding) -> Any:
    """`jax.device_put` that also reaches the devices of other processes, which must pass the same values."""

    def one(leaf: jax.Array | np.ndarray) -> jax.Array:
        if sharding.is_fully_addressable:
            return jax.device_put(leaf, sharding)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(one(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            return leaf  # on all the devices already
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(one, tree)


def map_jobs(job: Callable[..., Any], mesh: Mesh, chunk: int | None = None) -> Callable[..., Any]:
    """Maps `job(shared, per_job)` over the leading axis of `per_job`, divided over the mesh's devices.

    Args:
      job: (shared, per_job without its leading axis) -> pytree.
      chunk: jobs computed at once on a device, lowered to a divisor of its jobs; None for all of them. Smaller
        needs less memory.
    Returns:
      (shared, per_job [jobs, ...]) -> pytree with leading axis jobs.
    """

    side_by_side = jax.vmap(job, in_axes=(None, 0))

    def on_device(shared: Any, per_job: Any) -> Any:
        jobs = jax.tree.leaves(per_job)[0].shape[0]
        size = math.gcd(jobs, chunk or jobs)
        if size == jobs:
            return side_by_side(shared, per_job)
        # Not lax.map's batch_size, which refuses arrays without elements.
        chunks = jax.tree.map(lambda leaf: leaf.reshape(jobs // size, size, *leaf.shape[1:]), per_job)
        mapped = jax.lax.map(lambda some: side_by_side(shared, some), chunks)
        return jax.tree.map(lambda leaf: leaf.reshape(jobs, *leaf.shape[2:]), mapped)

    return jax.shard_map(
        on_device,
        mesh=mesh,
        in_specs=(P(), P(JOBS)),
        out_specs=P(JOBS),
        check_vma=False,
    )
