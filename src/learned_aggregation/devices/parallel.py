"""Devices, and the maps over independent jobs (inner problems, seeds, sweep points) and clients that use them."""

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
CLIENTS = "clients"
"""The mesh axis that the clients of each job are divided over: of size 1 unless there are more devices than jobs."""


def use_devices(num_devices: int | None) -> None:
    """Makes JAX's CPU backend offer one host device a core (or `num_devices`).

    Call before the first computation; later it changes nothing. Intra-op threads hardly help at these sizes;
    host devices do.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # Once JAX runs, its devices are what they are; `job_mesh` says so if they are too few.
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", num_devices or cores)


def check_platform() -> None:
    """Starts JAX's devices.

    Raises:
      UserError: JAX_PLATFORMS names what is not here, as it may be left over from another machine.
    """
    try:
        jax.devices()
    except Exception as error:  # RuntimeError, AssertionError and others, by JAX's version
        asked = os.environ.get("JAX_PLATFORMS", "")
        raise UserError(
            f"JAX_PLATFORMS: expected a platform that is here (cpu), got {asked!r} "
            f"({str(error) or type(error).__name__}). Unset it, or install JAX for that platform."
        ) from None


def use_compilation_cache(directory: str | os.PathLike) -> None:
    """Keeps compiled programs in `directory`, so that the next run of the same shapes starts at once."""
    jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def compiler_options() -> dict[str, int]:
    """For `jax.jit`. On a CPU, LLVM's first level compiles the outer step in 3.6 s instead of 5.9; it runs as fast."""
    return {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else {}


def job_mesh(num_jobs: int, num_devices: int | None = None, num_clients: int = 1) -> Mesh:
    """A mesh over `num_devices` devices, or over as many as there are and as divide the work.

    The jobs are divided over the greatest number of devices that divides both; what is left of the devices divides
    the clients of each job.

    Raises:
      UserError: fewer devices than asked for, or a number that divides neither the jobs nor the clients.
    """
    available, processes = len(jax.devices()), jax.process_count()

    def fits(devices: int) -> bool:
        return num_clients % (devices // math.gcd(num_jobs, devices)) == 0 and devices % processes == 0

    if num_devices is None:
        num_devices = max(filter(fits, range(processes, available + 1)), default=processes)
    elif num_devices > available:
        raise UserError(
            f"num_devices: expected at most {available}, the devices there are, got {num_devices}. "
            "Lower it, or leave it out to use all."
        )
    if not fits(num_devices):
        raise UserError(
            f"num_devices: expected a divisor of {num_jobs}, the number of parallel problems, or of that times "
            f"{num_clients}, the number of clients, and a multiple of {processes}, the number of processes, got "
            f"{num_devices}. Change num_devices, num_tasks or num_grads."
        )
    per_process = num_devices // processes
    of_processes = [
        [d for d in jax.devices() if d.process_index == p][:per_process] for p in range(processes)
    ]
    devices = [device for of_process in of_processes for device in of_process]
    jobs = math.gcd(num_jobs, num_devices)
    axes = (jobs, num_devices // jobs), (JOBS, CLIENTS), (AxisType.Auto, AxisType.Auto)
    return jax.make_mesh(*axes, devices=devices)


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


def map_clients(run: Callable[..., Any], shared: Any, per_client: Any, in_turn: bool = False) -> Any:
    """`run(shared, one client's)` over the leading axis of `per_client`; inside `map_jobs` over its devices too.

    Each device of the job computes its share of the clients, and all of them get all results. Differentiable, by
    devices that all differentiate the same function of what they all have: what went out to the clients collects
    the gradients of all devices, and of what came back each passes on its own share.

    Args:
      run: (shared, per_client without its leading axis) -> pytree of arrays.
      per_client: leaves [K, ...], K divisible by the devices of a job.
      in_turn: a device runs its clients one after another, not side by side.
    Returns:
      `run`'s results, leaves [K, ...].
    """

    def over_clients(shared: Any, some: Any) -> Any:
        if in_turn:
            return jax.lax.map(lambda one: run(shared, one), some)
        return jax.vmap(run, in_axes=(None, 0))(shared, some)

    if _devices_of_job() == 1:
        return over_clients(shared, per_client)
    shared, per_client = _to_clients((shared, per_client))
    return _from_clients(over_clients(shared, jax.tree.map(_own_share, per_client)))


def _devices_of_job() -> int:
    try:
        return jax.lax.axis_size(CLIENTS)
    except NameError:  # not inside map_jobs
        return 1


def _own_share(leaf: jax.Array) -> jax.Array:
    size = leaf.shape[0] // _devices_of_job()
    return jax.lax.dynamic_slice_in_dim(leaf, jax.lax.axis_index(CLIENTS) * size, size)


def _differentiable(leaf: jax.Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


def _to_clients(tree: Any) -> Any:
    """The same values; their gradient is the sum over the devices of a job."""

    @jax.custom_vjp
    def spread(leaf):
        return leaf

    spread.defvjp(lambda leaf: (leaf, None), lambda _, g: (jax.lax.psum(g, CLIENTS),))
    return jax.tree.map(lambda leaf: spread(leaf) if _differentiable(leaf) else leaf, tree)


def _from_clients(tree: Any) -> Any:
    """Each device's share [K / devices, ...] -> all [K, ...]; of the gradient each device takes its share."""

    def gather(leaf):
        return jax.lax.all_gather(leaf, CLIENTS, tiled=True)

    collect = jax.custom_vjp(gather)
    collect.defvjp(lambda leaf: (gather(leaf), None), lambda _, g: (_own_share(g),))
    return jax.tree.map(lambda leaf: (collect if _differentiable(leaf) else gather)(leaf), tree)
