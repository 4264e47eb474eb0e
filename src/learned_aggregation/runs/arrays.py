"""Arrays on disk through orbax, bit for bit: PRNG keys as their data, arrays without elements left out."""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from learned_aggregation.pretrained.theta_file import named_leaves
from learned_aggregation.types import MetaState


def is_key(leaf: Any) -> bool:
    """Whether a leaf is an array of typed PRNG keys."""
    return jnp.issubdtype(jax.dtypes.result_type(leaf), jax.dtypes.prng_key)


def write_arrays(path: Path, leaves: Mapping[str, Any]) -> None:
    """Writes the leaves, by name, into a new directory."""
    import orbax.checkpoint as ocp

    stored = {name: jax.random.key_data(leaf) if is_key(leaf) else leaf for name, leaf in leaves.items()}
    # orbax refuses arrays without elements; the template brings them back.
    stored = {
        name: np.asarray(jax.device_get(leaf)) for name, leaf in stored.items() if 0 not in np.shape(leaf)
    }
    with _orbax() as checkpointer:
        checkpointer.save(path, args=ocp.args.PyTreeSave(stored))


def read_arrays(path: Path, template: MetaState, key_impls: Mapping[str, str]) -> MetaState:
    """The state that `write_arrays` wrote.

    Args:
      template: the state's tree, shapes, dtypes and shardings; see `Checkpointer.restore`.
      key_impls: the PRNG implementation of each leaf that is a key, by name.
    """
    import orbax.checkpoint as ocp

    leaves = named_leaves(template)
    stored = {name: leaf for name, leaf in leaves.items() if 0 not in np.shape(leaf)}
    with _orbax() as checkpointer:
        args = ocp.args.PyTreeRestore(
            item=dict.fromkeys(stored, 0),
            restore_args={name: _restore_args(leaf) for name, leaf in stored.items()},
        )
        arrays = checkpointer.restore(path, args=args)
    restored = [_as_saved(arrays.get(name), leaf, key_impls.get(name)) for name, leaf in leaves.items()]
    return jax.tree.unflatten(jax.tree.structure(template), restored)


def _restore_args(leaf: Any) -> Any:
    import orbax.checkpoint as ocp

    sharding = leaf.sharding if getattr(leaf, "committed", True) and not is_key(leaf) else None
    if sharding is None:  # through the host, so that the array is not committed to a device
        return ocp.RestoreArgs(restore_type=np.ndarray)
    return ocp.ArrayRestoreArgs(sharding=sharding)


def _as_saved(array: Any, leaf: Any, key_impl: str | None) -> jax.Array:
    if array is None:
        return jnp.zeros(leaf.shape, leaf.dtype)
    if key_impl is not None:
        return jax.random.wrap_key_data(jnp.array(array), impl=key_impl)
    return array if isinstance(array, jax.Array) else jnp.array(array)


@contextlib.contextmanager
def _orbax() -> Iterator[Any]:
    """A quiet checkpointer of this process alone: the others of a run neither help nor wait."""
    import orbax.checkpoint as ocp

    this = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=this, active_processes={this}, barrier_sync_key_prefix=f"process{this}"
    )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    with _quiet(), ocp.Checkpointer(handler, multiprocessing_options=alone) as checkpointer:
        yield checkpointer


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """orbax logs its inner steps, and with tracebacks the errors that it then raises, through absl."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
