"""Generators on disk: `client_{i}_generator` and `client_{i}_generator_round_{n}`, safetensors; torch's .pt is read."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_aggregation.errors import UserError
from learned_aggregation.generators.base import Generator, GeneratorState
from learned_aggregation.pretrained.theta_file import named_leaves
from learned_aggregation.split.array_file import Refused, as_tree, read_arrays, write_arrays

SUFFIX = ".safetensors"
TORCH_SUFFIX = ".pt"
EVERY = 5
"""Rounds between the numbered files."""


class About(NamedTuple):
    """What a file says of itself besides its tensors."""

    client_id: int
    round: int
    generator_type: str
    diffusion_type: str


def newest(directory: Path, client_id: int) -> Path:
    """The file of a client's newest generator, without its suffix."""
    return directory / f"client_{client_id}_generator"


def numbered(directory: Path, client_id: int, round_num: int) -> Path:
    """The file of a client's generator of a round, without its suffix."""
    return directory / f"client_{client_id}_generator_round_{round_num}"


def with_suffix(path: Path) -> Path:
    """As a file is written: `.safetensors` at the end, whatever other dots there are."""
    return path if path.name.endswith((SUFFIX, TORCH_SUFFIX)) else path.with_name(path.name + SUFFIX)


def found(path: Path) -> Path | None:
    """The file that is there: as it is named, as .safetensors, as .pt."""
    for candidate in (path, with_suffix(path), path.with_name(path.name + TORCH_SUFFIX)):
        if candidate.is_file():
            return candidate
    return None


def write_generator(path: Path, about: About, state: GeneratorState) -> Path:
    """Writes a client's generator, atomically.

    Raises:
      RunError: the disk refused.
    """
    path = with_suffix(path)
    write_arrays(path, _tree(state), about._asdict())
    return path


def _tree(state: GeneratorState) -> dict[str, Any]:
    return {
        "generator_state_dict": state.params,
        "optimizer_state_dict": state.optimizer,
        "epoch": state.epoch,
    }


def read_generator(
    path: Path, generator: Generator, generator_type: str, template: GeneratorState
) -> tuple[GeneratorState, dict[str, Any]]:
    """(the generator, what its file says of itself).

    From a `.pt` the weights come alone: torch's optimizer state has another form, so the optimizer starts afresh.

    Args:
      template: a generator of the same sizes, or its shapes.
    Raises:
      UserError: a file that is damaged, of another type or of other sizes; a .pt without torch, or with more in it than
        tensors and plain values.
    """
    try:
        if path.name.endswith(TORCH_SUFFIX):
            weights, about = _read_torch(path)
            _check_about(about, generator_type)
            # Moments of the latents are no part of a torch module: without them they are those of the start.
            start = named_leaves(generator.init(jax.random.key(0)))
            kept = {name: np.asarray(leaf) for name, leaf in start.items() if name.startswith("latent/")}
            params = as_tree(kept | weights, template.params)
            fresh = GeneratorState(jax.tree.map(jnp.asarray, params), None, jnp.int32(about.get("epoch", 0)))
            return fresh._replace(optimizer=generator.start(fresh.params)), about
        about = read_about(path)
        _check_about(about, generator_type)
        tree = as_tree(read_arrays(path), _tree(template))
    except OSError as error:
        raise _unusable(path, generator_type, error.strerror or str(error)) from None
    except Refused as error:
        raise _unusable(path, generator_type, str(error)) from None
    tree = jax.tree.map(jnp.asarray, tree)
    state = GeneratorState(tree["generator_state_dict"], tree["optimizer_state_dict"], tree["epoch"])
    return state, about


def read_about(path: Path) -> dict[str, Any]:
    """What a .safetensors file says of itself.

    Raises:
      Refused: it is none.
    """
    try:
        content = path.read_bytes()
        size = int.from_bytes(content[:8], "little")
        about = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["about"])
        if not isinstance(about, dict):
            raise ValueError("no object")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Refused(f"damaged ({type(error).__name__})") from error
    return about


def _check_about(about: dict[str, Any], generator_type: str) -> None:
    if about.get("generator_type") != generator_type:
        raise Refused(f"of generator_type {about.get('generator_type')!r}")
    for name in ("client_id", "round", "epoch"):
        value = about.get(name, 0)
        if type(value) is not int or not 0 <= value < 2**31:
            raise Refused(f"with a {name} that is no whole number, {value!r:.40}")


def _read_torch(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(generator_state_dict by path, the plain values)."""
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError(
            f"{path}: expected torch to be installed to read a .pt file, got none. Install torch, or save the "
            "generator as .safetensors."
        ) from None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        weights = {
            name.replace(".", "/"): np.asarray(tensor.numpy(), np.float32)
            for name, tensor in content["generator_state_dict"].items()
        }
        if not all(np.isfinite(leaf).all() for leaf in weights.values()):
            raise ValueError("weights that are not finite")
        about = {name: value for name, value in content.items() if isinstance(value, (str, int, float))}
    except OSError:
        raise
    except Exception as error:  # torch raises its own types: whatever it is, the file is not used
        raise Refused(f"not a torch file of tensors and plain values ({type(error).__name__})") from error
    return weights, about


def _unusable(path: Path, generator_type: str, got: str) -> UserError:
    return UserError(
        f"generator_checkpoint_dir: expected a generator of type {generator_type!r} and of the sizes set, got "
        f"{str(path)!r}, {got}. Move the file away, or set generator_type, generator_hidden_dim and "
        "generator_latent_dim as they were."
    )


def same(one: Any, other: Any) -> bool:
    """Whether two trees hold the same numbers, bit for bit.

    Example:
      >>> same({"a": np.ones(2)}, {"a": np.ones(2)})
      True
    """
    left, right = named_leaves(jax.device_get(one)), named_leaves(jax.device_get(other))
    return left.keys() == right.keys() and all(
        np.asarray(left[name]).tobytes() == np.asarray(right[name]).tobytes() for name in left
    )
