"""Pytrees and NumPy arrays to and from Flower's ArrayRecord, by name and shape."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flwr.app import Array, ArrayRecord  # pyright: ignore[reportMissingImports]

from learned_aggregation.errors import UserError
from learned_aggregation.pretrained.theta_file import first_difference, named_leaves, shapes
from learned_aggregation.types import Params


def to_record(params: Params) -> ArrayRecord:
    """A pytree of arrays as an ArrayRecord; leaves are named by path, `params/Dense_0/kernel`.

    bfloat16 and the like, which NumPy's format does not know, travel as float32.

    Raises:
      ValueError: two leaves have the same path.
    """
    return arrays_to_record({name: np.asarray(leaf) for name, leaf in named_leaves(params).items()})


def from_record(record: ArrayRecord, like: Params) -> Params:
    """The pytree that `to_record` made the record from.

    Args:
      like: a pytree with its structure, shapes and dtypes.
    Raises:
      UserError: the record has other names or shapes.
    """
    arrays = record_to_arrays(record)
    change = first_difference(shapes(arrays), shapes(like))
    if change is not None:
        name, got, want = change
        raise UserError(
            f"ArrayRecord: expected array {name!r} {want}, got {got}. Build both sides from the same model."
        )
    leaves = [jnp.asarray(arrays[name], jnp.result_type(leaf)) for name, leaf in named_leaves(like).items()]
    return jax.tree.structure(like).unflatten(leaves)


def arrays_to_record(arrays: Mapping[str, np.ndarray]) -> ArrayRecord:
    """Named arrays as an ArrayRecord, in their order."""
    return ArrayRecord({name: Array(np.asarray(_storable(leaf))) for name, leaf in arrays.items()})


def record_to_arrays(record: ArrayRecord) -> dict[str, np.ndarray]:
    """The arrays of a record by name, in its order; nothing is unpickled."""
    return {name: array.numpy() for name, array in record.items()}


def _storable(leaf: np.ndarray) -> np.ndarray:
    return leaf if leaf.dtype.kind in "biuf" else leaf.astype(np.float32)
