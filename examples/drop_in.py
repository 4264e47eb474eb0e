"""A pretrained aggregator in a training loop of one's own: 8 clients, each with 200 of scikit-learn's digits.

Run: python examples/drop_in.py [NAME or PATH of an aggregator; lagg-set]
"""

import functools
import sys

import jax
import jax.numpy as jnp
from sklearn.datasets import load_digits

import learned_aggregation

images, labels = map(jnp.asarray, load_digits(return_X_y=True))
x, y = images[:1600].reshape(8, 200, 64) / 16, labels[:1600].reshape(8, 200)
w1, w2 = (0.1 * jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate([(64, 32), (32, 10)]))
params = {"w1": w1, "b1": jnp.zeros(32), "w2": w2, "b2": jnp.zeros(10)}


def logits(params, x):
    return jax.nn.relu(x @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]


def loss(params, x, y):
    return -jnp.mean(jax.nn.log_softmax(logits(params, x))[jnp.arange(len(y)), y])


@jax.jit
@functools.partial(jax.vmap, in_axes=(None, 0, 0, 0))
def clients(params, x, y, key):
    """Each client's delta after 4 local steps of SGD on 32 of its images."""
    local = params
    for rows in jax.random.randint(key, (4, 32), 0, 200):
        local = jax.tree.map(lambda p, g: p - 0.5 * g, local, jax.grad(loss)(local, x[rows], y[rows]))
    return jax.tree.map(jnp.subtract, local, params)


# The drop-in.
agg = learned_aggregation.load_aggregator(sys.argv[1] if len(sys.argv) > 1 else "lagg-set")
state = agg.init(params)
for round in range(50):
    deltas = clients(params, x, y, jax.random.split(jax.random.key(round), 8))
    params, state = agg.update(params, deltas, None, state)

accuracy = jnp.mean(jnp.argmax(logits(params, images[1600:] / 16), axis=-1) == labels[1600:])
print(f"{agg.name}: test accuracy {accuracy:.3f} after 50 rounds")
