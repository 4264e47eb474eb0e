"""States to save and restore in the tests of checkpoints, and whether two are the same, bit for bit."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_aggregation.types import MetaState

SETTINGS = {"optimizer": "fedlagg-adafac", "num_grads": 8, "hidden_size": 2, "task": ["mlp", "conv"]}

CONFIG = "num_grads = 8\n"


class Estimator(NamedTuple):
    accumulator: jax.Array
    nothing: tuple
    extra: dict


def make_state(key, rows=5):
    theta = {
        "nn": {"w0": jax.random.normal(key, (rows, 2)), "b0": jnp.zeros(2)},
        "momentum_decays": jnp.ones(3),
    }
    extra = {
        "done": jnp.array([True, False]),
        "counts": jnp.array([2**32 - 1, 7], jnp.uint32),
        "half": jnp.array([1.5, np.nan, -0.0], jnp.bfloat16),
        "odd": jnp.array([np.nan, -np.inf, -0.0, 1e-45], jnp.float32),
        "empty": jnp.zeros((0, 3)),
        "keys": jax.random.split(key, 3),
        "rbg": jax.random.key(3, impl="rbg"),
    }
    optimizer = optax.adamw(optax.cosine_decay_schedule(1e-3, 10))
    estimators = (Estimator(jnp.ones((2, rows)), (), extra), ())
    return MetaState(theta, optimizer.init(theta), estimators, key, jnp.int32(0))


def small_state(seed):
    return MetaState(
        {"nn": {"w0": jnp.full((2, 2), float(seed))}}, (), (), jax.random.key(seed), jnp.int32(seed)
    )


def bits_of(leaf):
    leaf = jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
    return np.asarray(leaf).tobytes()


def same_bits(got, want):
    leaves = zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True)
    return jax.tree.structure(got) == jax.tree.structure(want) and all(
        a.dtype == b.dtype and a.shape == b.shape and bits_of(a) == bits_of(b) for a, b in leaves
    )
