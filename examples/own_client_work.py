"""Client work of one's own, FedProx: each client is held near the server's model. Under any aggregator.

Run: python examples/own_client_work.py [ROUNDS; 50]
"""

import sys

import jax
import jax.numpy as jnp
import optax

from learned_aggregation import Task, get_aggregator
from learned_aggregation.federated.parts import assemble
from learned_aggregation.federated.round import federated_round, init_server
from learned_aggregation.tasks import make_task
from learned_aggregation.types import ClientUpdate, ClientWork, Traffic

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 50
K, H, B = 8, 8, 32


def proximal(task: Task, rate: float, mu: float) -> ClientWork:
    """H steps w <- w - rate * (grad loss(w) + mu * (w - w_server)). Source: Li et al., MLSys 2020, arXiv:1812.06127."""

    def one(server, batches, key):  # one client: batches [H, B, ...]
        def step(carry, batch):
            w, state = carry
            (loss, (state, _)), grads = jax.value_and_grad(task.loss, has_aux=True)(w, state, key, batch)
            w = jax.tree.map(lambda p, g, s: p - rate * (g + mu * (p - s)), w, grads, server.params)
            return (w, state), loss

        (w, _), losses = jax.lax.scan(step, (server.params, server.model_state), batches)
        return jax.tree.map(jnp.subtract, w, server.params), losses.mean()

    def run(server, batches, weight, states, key):
        keys = jax.random.split(key, len(weight))
        delta, loss = jax.vmap(one, (None, 0, 0))(server, batches, keys)
        return ClientUpdate(delta, server.model_state, loss, weight), states

    return ClientWork(
        lambda params: (),
        run,
        lambda params: Traffic(0.0, 0.0),
        lambda other, scale: proximal(other, rate, mu),
    )


task, data = make_task("mlp32_digits_8")
train, test = ({n: jnp.asarray(x) for n, x in data.splits[s].examples.items()} for s in ("train", "test"))
parts = assemble(task, proximal(task, 0.5, 0.1), get_aggregator("fedavg"))
server = init_server((), parts, *task.init(jax.random.key(0)), population=K)
advance = jax.jit(lambda *inputs: federated_round((), parts, *inputs))
for r in range(ROUNDS):
    rows = jax.random.randint(jax.random.key(r), (K, H, B), 0, len(train["label"]))
    batches = {name: leaf[rows] for name, leaf in train.items()}
    server, loss = advance(server, batches, jnp.ones(K), jnp.arange(K), jax.random.key(r))
accuracy = task.evaluate(server.params, server.model_state, jax.random.key(0), test)["accuracy"].mean()
print(f"FedProx: test accuracy {accuracy:.3f} after {ROUNDS} rounds; {optax.global_norm(server.params):.1f}")
