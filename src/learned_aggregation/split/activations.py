"""The activations at the cut of a frozen client half: computed once, kept on disk."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from learned_aggregation.split.array_file import cached, short_hash
from learned_aggregation.split.model import SplitModel
from learned_aggregation.types import Params

CHUNK = 512
"""Examples computed at once."""


class Source(NamedTuple):
    """What activations depend on, and so the key that they are kept under.

    weights: a hash of the whole base model. seed: which examples a proportion below 1 takes. data: a digest of a user's
    data set, None of one of the package.
    """

    dataset: str
    proportion: float
    model: str
    weights: str
    split_layer: int
    seed: int
    data: str | None = None


def chosen_rows(count: int, proportion: float, seed: int) -> np.ndarray:
    """The examples of a set of `count` that a proportion in (0, 1] takes, ascending; at least one."""
    wanted = max(1, round(proportion * count))
    return np.sort(np.random.default_rng(seed).permutation(count)[:wanted])


def compute(
    model: SplitModel, client: Params, examples: Mapping[str, Any], rows: np.ndarray
) -> Float[np.ndarray, "N t d"]:
    """The activations of the examples at `rows`, in test mode, on the host."""
    forward = jax.jit(model.halves.client)
    shape = jax.eval_shape(forward, client, model.spec).shape[1:]
    found = np.empty((len(rows), *shape), np.float32)
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        padded = np.resize(chunk, min(CHUNK, len(rows)))  # one shape, one compilation
        batch = {name: jnp.asarray(leaf[padded]) for name, leaf in examples.items()}
        found[start : start + len(chunk)] = np.asarray(forward(client, batch))[: len(chunk)]
    return found


def activations(
    directory: Path,
    source: Source,
    model: SplitModel,
    client: Params,
    examples: Mapping[str, Any],
    rows: np.ndarray,
    say: Callable[[str], None],
) -> Float[np.ndarray, "N t d"]:
    """`compute`, read from `directory` where it is kept there; a damaged or foreign file is refused and rebuilt.

    Raises:
      RunError: the disk refused.
    """
    about = {name: value for name, value in source._asdict().items() if value is not None}
    cut = model.halves.cut
    shape = (len(rows), cut.tokens + cut.class_token, cut.width)
    template = {"activations": jax.ShapeDtypeStruct(shape, np.float32)}
    path = directory / f"activations_{short_hash(about)}.safetensors"
    stored = cached(
        path, about, template, lambda: {"activations": compute(model, client, examples, rows)}, say
    )
    return stored["activations"]
