"""The loop in the open: what a client does, what the server does with a learned aggregator, and what crosses between.

Run: python examples/loop.py [ROUNDS; 50]
"""

import sys

import jax
import jax.numpy as jnp
from sklearn.datasets import load_digits

import learned_aggregation as la

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 50
images, labels = map(jnp.asarray, load_digits(return_X_y=True))
clients = [(images[i:1600:8] / 16, labels[i:1600:8]) for i in range(8)]  # each has its examples


def loss(params, x, y):
    logits = jax.nn.relu(x @ params["w1"]) @ params["w2"]
    return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(len(y)), y])


# The client's half: from the server's model, some local steps; it answers with the difference and its weight.
@jax.jit
def client_update(params, x, y, key):
    local = params
    for rows in jax.random.randint(key, (4, 32), 0, len(y)):
        local = jax.tree.map(lambda p, g: p - 0.5 * g, local, jax.grad(loss)(local, x[rows], y[rows]))
    return jax.tree.map(jnp.subtract, local, params), len(y)


# The server's half: FedAvg would add the deltas' weighted mean; a learned aggregator makes more of them.
aggregator = la.load_aggregator("lagg-set")


def server_update(params, state, answers):
    deltas, weights = zip(*answers, strict=True)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *deltas)  # one row for each client
    return aggregator.update(params, stacked, jnp.array(weights), state)


params = {
    "w1": 0.1 * jax.random.normal(jax.random.key(0), (64, 32)),
    "w2": 0.1 * jax.random.normal(jax.random.key(1), (32, 10)),
}
state = aggregator.init(params)
for r in range(ROUNDS):
    keys = jax.random.split(jax.random.key(r), len(clients))
    answers = [client_update(params, x, y, key) for (x, y), key in zip(clients, keys, strict=True)]
    params, state = server_update(params, state, answers)
print(
    f"{aggregator.name}: test loss {loss(params, images[1600:] / 16, labels[1600:]):.3f} after {ROUNDS} rounds"
)
