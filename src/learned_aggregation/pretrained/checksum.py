"""safetensors files with a checksum of all that they hold: a flipped bit is another model, which nothing else shows."""

import hashlib
import json
from collections.abc import Mapping

import numpy as np

from learned_aggregation.json_text import parse_json

CHECKSUM = "sha256"
"""The name of the checksum among a file's metadata."""


def checksum(leaves: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    """sha256 of the leaves by name (dtype, shape, bytes as they lie in a C-ordered array) and of the other metadata.

    Example:
      >>> checksum({"a": np.zeros(2)}, {}) == checksum({"a": np.zeros(2)}, {CHECKSUM: "of itself"})
      True
    """
    others = {name: value for name, value in metadata.items() if name != CHECKSUM}
    digest = hashlib.sha256(json.dumps(others, sort_keys=True).encode())
    for name, leaf in sorted(leaves.items()):
        digest.update(json.dumps([name, str(leaf.dtype), list(leaf.shape)]).encode())
        digest.update(np.asarray(leaf, order="C").tobytes())
    return digest.hexdigest()


def check_checksum(leaves: Mapping[str, np.ndarray], metadata: Mapping[str, str], *, required: bool) -> None:
    """Raises a ValueError unless the checksum is that of the content.

    Args:
      required: it must be there; else it is checked where it is.
    """
    if required or CHECKSUM in metadata:
        want, got = metadata.get(CHECKSUM, "none"), checksum(leaves, metadata)
        if want != got:
            raise ValueError(f"its content has the sha256 {got}, it says {want}")


def read_safetensors(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """(leaves, metadata) of a safetensors file's content.

    Raises:
      Exception: of any type, for whatever is wrong with it.
    """
    import safetensors.numpy

    leaves = safetensors.numpy.load(content)
    size = int.from_bytes(content[:8], "little")
    return leaves, parse_json(content[8 : 8 + size], finite=False).get("__metadata__", {})
