"""Reads the golden vectors: what the published reference computes on small inputs."""

from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent / "golden"


def load(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def tree(arrays: dict[str, np.ndarray], prefix: str) -> dict:
    """The arrays below `prefix/` as a nested dictionary."""
    nested: dict = {}
    for name, value in arrays.items():
        if name.startswith(prefix + "/"):
            node = nested
            *parents, leaf = name[len(prefix) + 1 :].split("/")
            for parent in parents:
                node = node.setdefault(parent, {})
            node[leaf] = value
    return nested


def theta(arrays: dict[str, np.ndarray], prefix: str = "theta") -> dict:
    """A theta in our names, {"nn": {"w0", ...}, "momentum_decays", ...}; leading axes are kept."""
    found = tree(arrays, prefix)
    if "nn" in found:
        return found | {"nn": found["nn"]["~"]}
    linear = {i: found[f"mlp|~|linear_{i}"] for i in range(3)}
    return {"nn": {f"{kind}{i}": linear[i][kind] for i in range(3) for kind in "wb"}}


def mlp_params(arrays: dict[str, np.ndarray], prefix: str, name: str = "mlp|~|linear_{}") -> dict:
    """Haiku MLP parameters in flax's names."""
    found = tree(arrays, prefix)
    layers = {f"Dense_{i}": found[name.format(i)] for i in range(len(found))}
    return {layer: {"kernel": leaf["w"], "bias": leaf["b"]} for layer, leaf in layers.items()}
