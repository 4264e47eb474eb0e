"""The one central base model that client half, autoencoder and server half start from: loaded, or made once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_aggregation.data.digest import data_digest
from learned_aggregation.data.federated import to_federated
from learned_aggregation.data.sampling import sample_batch
from learned_aggregation.devices.parallel import compiler_options
from learned_aggregation.errors import UserError
from learned_aggregation.split.array_file import (
    Refused,
    as_tree,
    cached,
    read_arrays,
    short_hash,
    write_arrays,
)
from learned_aggregation.split.model import SplitModel
from learned_aggregation.split.optimizing import stepped
from learned_aggregation.types import Dataset, FederatedData, Key, Params

HEAD = "head"
"""The parameters that do not come from another data set: its classes are others."""


class Schooling(NamedTuple):
    """Training of the whole model before it is cut: steps of Adam at a rate on batches of a data set."""

    steps: int
    learning_rate: float
    batch_size: int


def load_base(path: str, model: SplitModel) -> Params:
    """The weights that `save_base` wrote.

    Raises:
      UserError: no such file, a damaged one, or one of another model.
    """
    template = jax.eval_shape(model.init, jax.random.key(0))
    try:
        return jax.tree.map(jnp.asarray, as_tree(read_arrays(Path(path)), template))
    except (OSError, Refused) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(
            f"base_path: expected the weights of {model.name}, got {path!r}, {reason}. Check the path."
        ) from None


def save_base(path: str, params: Params, about: dict[str, Any]) -> None:
    """Writes a whole model's weights to a `.safetensors` file, atomically."""
    write_arrays(Path(path), jax.device_get(params), about)


def make_base(
    model: SplitModel,
    school: SplitModel,
    dataset: Dataset,
    schooling: Schooling,
    seed: int,
    directory: Path,
    say: Callable[[str], None],
) -> Params:
    """The model's initial weights of `seed`; with schooling, trained on `dataset` first, and kept in `directory`.

    Args:
      school: the same model over `dataset`; of another data set, its head is not taken.
    Raises:
      UserError: a data set whose inputs have another shape.
    """
    key = jax.random.key(seed)
    params = model.init(key)
    if not schooling.steps:
        return params
    template = jax.eval_shape(school.init, key)
    check_same_inputs("base_dataset", dataset.name, {k: v for k, v in params.items() if k != HEAD}, template)
    about = {"model": school.name, "seed": seed, **schooling._asdict()}
    if data := data_digest(dataset):
        about["data"] = data
    path = directory / f"base_{short_hash(about)}.safetensors"
    trained = cached(path, about, template, lambda: _train(school, dataset, schooling, key), say)
    head = trained[HEAD] if school.name == model.name else params[HEAD]
    return jax.tree.map(jnp.asarray, {**trained, HEAD: head})


def check_same_inputs(where: str, dataset: str, params: Params, other: Params) -> None:
    """Refuses another data set whose model has parameters of other shapes."""
    for name, tree in params.items():
        shapes = [[leaf.shape for leaf in jax.tree.leaves(t)] for t in (tree, other[name])]
        if shapes[0] != shapes[1]:
            raise UserError(
                f"{where}: expected a data set with inputs like the downstream one's ({name} {shapes[0][0]}), got "
                f"{dataset!r} ({shapes[1][0]}). Choose another data set."
            )


def _train(model: SplitModel, dataset: Dataset, schooling: Schooling, key: Key) -> Params:
    halves, optimizer = model.halves, optax.adam(schooling.learning_rate)
    train = dataset.splits["train"]
    data = to_federated(train, [np.arange(len(next(iter(train.examples.values()))))])

    def loss(params: Params, batch: Any):
        client, server = model.part(params)
        logits = halves.server(server, halves.client(client, batch))
        return jnp.mean(halves.measure(logits, halves.labels(batch))["loss"])

    def run(params: Params, data: FederatedData, key: Key) -> Params:
        def step(carry, step_key):
            params, state = carry
            grads = jax.grad(loss)(params, sample_batch(data, step_key, schooling.batch_size))
            return stepped(optimizer, grads, state, params), None

        keys = jax.random.split(key, schooling.steps)
        return jax.lax.scan(step, (params, optimizer.init(params)), keys)[0][0]

    return jax.jit(run, compiler_options=compiler_options())(
        model.init(key), data, jax.random.fold_in(key, 1)
    )
