"""What several tests share: small trees, cohorts and a toy inner problem."""

import hashlib
import tempfile
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from learned_aggregation import get_aggregator
from learned_aggregation.pretrained import names as pretrained
from learned_aggregation.pretrained.card import CARD_FILE, THETA_FILE, Card, card_text
from learned_aggregation.pretrained.theta_file import theta_bytes
from learned_aggregation.types import ClientUpdate, Task

CLASSICAL = {
    "fedavg": {},
    "fedavg-slowmo": {"slowmo_learning_rate": 0.2, "beta": 0.8, "local_learning_rate": 0.1},
    "fedavgm": {"beta": 0.9, "learning_rate": 0.5},
    "diloco": {"learning_rate": 0.7, "beta": 0.9},
    "nesterov-decay": {"learning_rate": 0.7, "beta": 0.6, "final": 0.2, "rounds": 4.0},
    "fedadam": {"learning_rate": 0.1, "beta1": 0.9, "beta2": 0.99, "tau": 1e-3},
    "fedyogi": {"learning_rate": 0.1, "beta1": 0.9, "beta2": 0.99, "tau": 1e-3},
    "fedadagrad": {"learning_rate": 0.1, "beta1": 0.9, "tau": 1e-3},
    "sgd": {"learning_rate": 0.1},
    "adam": {"learning_rate": 0.1},
}
"""Every classical rule with all its options; a new rule adds a row."""


class Layer(NamedTuple):
    kernel: jax.Array
    bias: jax.Array


def ranks_tree() -> dict:
    """Ranks 0 to 4, with dimensions of size 1."""
    shapes = {
        "scalar": (),
        "one": (1,),
        "vector": (5,),
        "row": (1, 4),
        "cube": (2, 1, 3),
        "kernel": (3, 3, 1, 2),
    }
    return random_tree(jax.random.key(0), {name: jnp.zeros(shape) for name, shape in shapes.items()})


def small_tree() -> dict:
    """Two leaves, enough for the arithmetic."""
    return {"w": jnp.arange(6.0).reshape(2, 3) / 10.0, "b": jnp.array([0.3, -0.2, 0.1])}


def random_tree(key: jax.Array, like, leading: tuple[int, ...] = (), scale: float = 1.0):
    """Normal numbers shaped like `like`, with more axes in front."""
    leaves, structure = jax.tree.flatten(like)
    keys = jax.random.split(key, len(leaves))
    drawn = [
        scale * jax.random.normal(k, (*leading, *leaf.shape)) for k, leaf in zip(keys, leaves, strict=True)
    ]
    return structure.unflatten(drawn)


def cohort(delta, weight=None) -> ClientUpdate:
    """The update of K clients from their deltas [K, ...]; equal weights unless given."""
    clients = jax.tree.leaves(delta)[0].shape[0]
    weight = jnp.ones(clients) if weight is None else jnp.asarray(weight, jnp.float32)
    return ClientUpdate(delta, (), jnp.zeros(clients), weight)


def assert_close(actual, expected, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    """Two trees of equal structure with nearly equal leaves."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, rtol=rtol, atol=atol), actual, expected)


def specs(tree):
    """Shapes and dtypes of a tree."""
    return jax.tree.map(lambda leaf: (leaf.shape, np.dtype(leaf.dtype)), tree)


def regression_task() -> Task:
    """tanh(x w + b) against y, mean squared error; batches {"x": [B, 2], "y": [B, 3]}."""

    def loss(params, model_state, key, batch):
        error = jnp.tanh(batch["x"] @ params["w"] + params["b"]) - batch["y"]
        return jnp.mean(error**2), (model_state, {})

    def evaluate(params, model_state, key, batch):
        error = jnp.tanh(batch["x"] @ params["w"] + params["b"]) - batch["y"]
        return {"loss": jnp.mean(error**2, axis=-1)}

    return Task("regression", lambda key: (small_tree(), ()), loss, evaluate, None)


def regression_batches(key: jax.Array, *leading: int) -> dict:
    """Batches of `regression_task` with the axes `leading`, such as K, H, B."""
    x_key, y_key = jax.random.split(key)
    return {"x": jax.random.normal(x_key, (*leading, 2)), "y": jax.random.uniform(y_key, (*leading, 3))}


def fresh_pretrained(monkeypatch, directory: Path, name: str) -> Path:
    """Puts an untrained aggregator, momentum under a small network for 8 clients, in a place that is searched first.

    Returns:
      Its directory, `directory/name`.
    """
    options = {"num_grads": 8, "hidden_size": 4, "base": "momentum"}
    theta = get_aggregator("fedlagg", **options).init_theta(jax.random.key(0))
    content = theta_bytes(theta, {"optimizer": "fedlagg", **options})
    digest = hashlib.sha256(content).hexdigest()
    card = Card(name, "fedlagg", options, digest, sum(leaf.size for leaf in jax.tree.leaves(theta)))
    (directory / name).mkdir()
    (directory / name / THETA_FILE).write_bytes(content)
    (directory / name / CARD_FILE).write_text(card_text(card))
    monkeypatch.setattr(pretrained, "PLACES", (directory, *pretrained.PLACES))
    return directory / name


def prepare_tfds(builder, data_dir):
    """Has TFDS write a data set; the directory that it makes and forgets lies in `data_dir`, not in /tmp."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with mock.patch.object(tempfile, "tempdir", str(data_dir)):
        builder(data_dir=str(data_dir), file_format="array_record").download_and_prepare()
