"""What a strategy keeps between rounds, in one safetensors file. No flwr here."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_aggregation.atomic import write_atomic
from learned_aggregation.errors import UserError
from learned_aggregation.pretrained.checksum import CHECKSUM, check_checksum, checksum, read_safetensors
from learned_aggregation.pretrained.theta_file import first_difference, named_leaves
from learned_aggregation.types import AggState

FORMAT = "learned_aggregation.flower_state.2"
"""With a checksum; files of the format before have none."""
_WITHOUT_CHECKSUM = "learned_aggregation.flower_state.1"


class ServerRecord(NamedTuple):
    """The server after `round` rounds.

    aggregator: the rule's name.
    arrays: the model by name, in the order of its ArrayRecord.
    """

    round: int
    aggregator: str
    arrays: dict[str, np.ndarray]
    agg_state: AggState


def save_record(path: Path, record: ServerRecord) -> None:
    """Writes the record, atomically.

    Raises:
      RunError: the disk is full or not writable.
    """
    import safetensors.numpy

    metadata = {
        "format": FORMAT,
        "round": str(record.round),
        "aggregator": record.aggregator,
        "order": json.dumps(list(record.arrays)),
    }
    # safetensors writes the memory as it lies, whatever the strides.
    leaves = {name: np.asarray(leaf, order="C") for name, leaf in _leaves(record).items()}
    metadata[CHECKSUM] = checksum(leaves, metadata)
    write_atomic(path, safetensors.numpy.save(leaves, metadata=metadata))


def load_record(path: Path, like: ServerRecord) -> ServerRecord:
    """Reads what `save_record` wrote.

    Args:
      like: a record of the same model and rule.
    Raises:
      UserError: not such a file, a corrupt one, or one of another model or rule.
    """
    leaves, metadata = _read(path)
    if metadata.get("aggregator") != like.aggregator:
        raise _other(path, f"the state of {like.aggregator}", metadata.get("aggregator", "none"))
    change = first_difference(_specs(leaves), _specs(_leaves(like)))
    if change is not None:
        name, got, want = change
        raise _other(path, f"{name} {want}", str(got))
    arrays = {name: leaves[f"arrays/{name}"] for name in json.loads(metadata["order"])}
    state = [jnp.asarray(leaves[f"state/{name}"]) for name in named_leaves(like.agg_state)]
    structure = jax.tree.structure(like.agg_state)
    return ServerRecord(int(metadata["round"]), like.aggregator, arrays, structure.unflatten(state))


def _leaves(record: ServerRecord) -> dict[str, np.ndarray]:
    trees = {"arrays": record.arrays, "state": named_leaves(record.agg_state)}
    return {
        f"{prefix}/{name}": np.asarray(leaf) for prefix, tree in trees.items() for name, leaf in tree.items()
    }


def _specs(leaves: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {name: f"{leaf.dtype} {leaf.shape}" for name, leaf in leaves.items()}


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    try:
        leaves, metadata = read_safetensors(path.read_bytes())
        check_checksum(leaves, metadata, required=metadata.get("format") == FORMAT)
    except Exception as error:  # the library raises its own type, KeyError and others
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{path}: expected a complete state file of a Flower run, got a file that cannot be read ({reason}). "
            "Restore it, or move it away to start from round 1."
        ) from error
    if metadata.get("format") not in (FORMAT, _WITHOUT_CHECKSUM):
        raise _other(path, "the state of a Flower run", str(metadata.get("format", "another file")))
    return leaves, metadata


def _other(path: Path, expected: str, got: str) -> UserError:
    return UserError(
        f"{path}: expected {expected}, got {got}. Use another state_file, or move this one away."
    )
