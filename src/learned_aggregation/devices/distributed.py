"""Several processes, on one machine or many, as one run."""

import os
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from learned_aggregation.errors import RunError, UserError

_VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


class Processes(NamedTuple):
    """coordinator: "host:port" of process 0; count and index of the processes."""

    coordinator: str
    count: int
    index: int


def from_environment() -> Processes | None:
    """The processes that JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID describe, if set.

    Raises:
      UserError: some but not all of them are set, or not as numbers.
    """
    values = {name: os.environ[name] for name in _VARIABLES if os.environ.get(name)}
    if not values:
        return None
    try:
        address, count, index = (values[name] for name in _VARIABLES)
        return Processes(address, int(count), int(index))
    except (KeyError, ValueError):
        raise UserError(
            f"environment: expected {', '.join(_VARIABLES)} together (host:port, count, index), got {values}. "
            "Set all three or none."
        ) from None


def under_slurm() -> bool:
    """Whether SLURM started several tasks; JAX then finds the coordinator by itself."""
    return "SLURM_JOB_ID" in os.environ and int(os.environ.get("SLURM_NTASKS", "1")) > 1


def start(asked: Processes | None) -> None:
    """Joins the processes of one run: those asked for, else the environment's, else SLURM's, else none.

    Call before the first computation.

    Raises:
      UserError: an index outside the count, or a coordinator that does not answer.
    """
    processes = asked or from_environment()
    if processes is None and not under_slurm():
        return
    if processes is not None and not 0 <= processes.index < processes.count:
        raise UserError(
            f"process_id: expected a number from 0 to {processes.count - 1}, got {processes.index}. "
            "Give each process its own."
        )
    try:
        if processes is None:
            jax.distributed.initialize()
        elif processes.count > 1:
            jax.distributed.initialize(processes.coordinator, processes.count, processes.index)
    except Exception as error:  # the coordination service raises several types
        raise UserError(
            f"coordinator_address: expected {processes.coordinator if processes else 'SLURM'} to answer, got "
            f"{str(error).splitlines()[0]}. Check the address and that every process was started."
        ) from error


def is_main() -> bool:
    """Whether this process writes the files and speaks: the first one."""
    return jax.process_index() == 0


def is_alone() -> bool:
    """Whether this is the run's only process."""
    return jax.process_count() == 1


def any_process(flag: bool) -> bool:
    """Whether `flag` holds in any process; every process must ask."""
    if is_alone():
        return flag
    from jax.experimental.multihost_utils import process_allgather

    return bool(np.any(process_allgather(np.array(flag))))


def runtime_error(error: Exception) -> RunError:
    """A failure of the device program as one clear line."""
    reason = str(error).strip().splitlines()[0]
    if "RESOURCE_EXHAUSTED" in reason or "out of memory" in reason.lower():
        return RunError(
            f"device: expected enough memory for the step, got {reason}. Set tasks_per_chunk (fewer inner problems "
            "at once) or remat, or lower num_tasks, local_batch_size or eval_chunk."
        )
    if not is_alone():
        return RunError(
            f"process {jax.process_index()} of {jax.process_count()}: expected the others to be there, got {reason}. "
            "Start all processes again with --from_checkpoint."
        )
    return RunError(f"device: expected the step to run, got {reason}. Please report it.")


def replicated(tree: Any, mesh: Mesh) -> Any:
    """The tree with every array whole on every device, so that one process can save it."""
    if is_alone():
        return tree
    return jax.jit(lambda x: x, out_shardings=NamedSharding(mesh, P()))(tree)
