"""A small split model of digits or text and its training, for the tests of split learning."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_aggregation import get_aggregator, get_compressor
from learned_aggregation.data import load_dataset
from learned_aggregation.federated.parts import assemble
from learned_aggregation.split.bottlenecks import BOTTLENECKS
from learned_aggregation.split.boundary import Boundary
from learned_aggregation.split.model import split_model
from learned_aggregation.split.work import Sharing, SplitTraining, split_task, split_work
from learned_aggregation.types import Dataset, Split

IMAGE = "vit_p4_h8_m8_nh2_nl2_digits_8"
TEXT = "transformer_h8_m8_nh1_nl2_pytext_4"
TOKENS = np.random.default_rng(0).integers(0, 128, (64, 5)).astype(np.uint8)


def dataset_of(name):
    """The data set of a task; a small one in the place of pytext, whose sources take long to read."""
    if name == IMAGE:
        return load_dataset("digits", 8)
    return Dataset("pytext", {s: Split({"tokens": TOKENS}) for s in ("train", "outer_valid", "test")}, 128)


def make_training(name=IMAGE, bottleneck="linear", latent_dim=2, optimizer=None, keep_state=False, **options):
    """A SplitTraining; options of Sharing, and of Boundary: class_token, up, down, labels_at."""
    shared = {n: options.pop(n) for n in Sharing._fields if n in options}
    compressors = {n: get_compressor(*options.pop(n, ("none",))) for n in ("up", "down") if n not in options}
    model = split_model(name, dataset_of(name), 1)
    made = BOTTLENECKS[bottleneck](model.halves.cut, latent_dim)
    boundary = Boundary(made, **{"class_token": "whole", **compressors, **options})
    optimizer = optimizer or optax.sgd(0.1)
    return SplitTraining(model, boundary, Sharing(**shared), optimizer, optimizer, keep_state)


def make_parts(training, steps=2, batch=3, rule="fedavg", **options):
    return assemble(split_task(training), split_work(training, steps, batch), get_aggregator(rule, **options))


def batches(name, clients, steps=2, size=3):
    """leaves [K, H, B, ...]"""
    count = clients * steps * size
    examples = dataset_of(name).splits["train"].examples
    return {
        n: jnp.asarray(leaf[:count]).reshape(clients, steps, size, *leaf.shape[1:])
        for n, leaf in examples.items()
    }


def leaves_equal(tree, other):
    return all(
        np.array_equal(a, b) for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True)
    )
