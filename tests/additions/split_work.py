"""A client work that trains two halves: the clients' is aggregated, the server's trains at the server."""

from additions import Addition

WORK = '''"""Parallel split training of a model of two halves."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_aggregation.types import ClientUpdate, ClientWork, Task, Traffic


class Halves(NamedTuple):
    """client: (params, batch) -> latents [B, Z]; server: (params, latents [B, Z], batch) -> losses [B]."""

    init: Any
    client: Any
    server: Any
    width: int


def split_task(halves: Halves) -> Task:
    """params are the clients' half; the server's half is model state, which no aggregator sees."""

    def losses(params, state, batch):
        return halves.server(state, halves.client(params, batch), batch)

    return Task(
        "split",
        halves.init,
        lambda params, state, key, batch: (jnp.mean(losses(params, state, batch)), (state, {})),
        lambda params, state, key, batch: {"loss": losses(params, state, batch)},
        None,
    )


def in_two_halves(halves: Halves, rate: float, batch_size: int, steps: int) -> ClientWork:
    """At each local step latents go up; the server takes one step on all of them; gradients go back."""

    def run(server, batches, weight, states, key):
        share = weight / jnp.sum(weight)

        def cohort_loss(locals_, top, batch):
            latents = jax.vmap(halves.client)(locals_, batch)
            losses = jax.vmap(halves.server, (None, 0, 0))(top, latents, batch).mean(axis=1)
            return jnp.sum(share * losses), losses

        def step(carry, batch):
            locals_, top = carry
            (_, losses), (down, here) = jax.value_and_grad(cohort_loss, (0, 1), has_aux=True)(locals_, top, batch)
            scale = jnp.where(share > 0, rate / jnp.where(share > 0, share, 1.0), 0.0)  # each client's own gradient
            locals_ = jax.tree.map(
                lambda p, g: p - scale.reshape(-1, *[1] * (p.ndim - 1)) * g, locals_, down
            )
            return (locals_, optax.apply_updates(top, jax.tree.map(lambda g: -rate * g, here))), losses

        start = jax.tree.map(lambda p: jnp.broadcast_to(p, (len(weight), *p.shape)), server.params)
        by_step = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), batches)
        (locals_, top), losses = jax.lax.scan(step, (start, server.model_state), by_step)
        delta = jax.tree.map(lambda p, q: p - q, locals_, server.params)
        return ClientUpdate(delta, top, losses.mean(axis=0), weight), states

    bits = 32.0 * steps * batch_size * halves.width
    work = ClientWork(lambda params: (), run, lambda params: Traffic(bits, bits), lambda task, scale: work)
    return work
'''

SCRIPT = """
import sys
import jax, jax.numpy as jnp, numpy as np, optax
import learned_aggregation
from learned_aggregation import get_aggregator
from learned_aggregation.federated.client_work import independently
from learned_aggregation.federated.local_training import local_training
from learned_aggregation.federated.parts import assemble
from learned_aggregation.federated.round import federated_round, init_server, traffic
from learned_aggregation.federated.split_work import Halves, in_two_halves, split_task
from learned_aggregation.types import Task, Traffic

assert learned_aggregation.__path__ == [sys.argv[1]]

def init(key):
    low, high = jax.random.split(key)
    return {"w": jax.random.normal(low, (5, 3)) / 2}, {"v": jax.random.normal(high, (3, 2)) / 2}

halves = Halves(
    init,
    lambda params, batch: jnp.tanh(batch["x"] @ params["w"]),
    lambda top, latents, batch: jnp.mean((latents @ top["v"] - batch["y"]) ** 2, axis=-1),
    3,
)
task = split_task(halves)
key = jax.random.key(1)

def batches(clients):
    x, y = (jax.random.normal(jax.random.fold_in(key, i), (clients, 4, 6, n)) for i, n in enumerate((5, 2)))
    return {"x": x, "y": y}

# With one client it is training the whole model.
whole = Task("whole", lambda key: (dict(zip("lh", init(key))), ()), lambda p, s, k, b: (
    task.loss(p["l"], p["h"], k, b)[0], (s, {})), lambda p, s, k, b: task.evaluate(p["l"], p["h"], k, b), None)
split = assemble(task, in_two_halves(halves, 0.1, 6, 4), get_aggregator("fedavg"))
alone = assemble(whole, independently(local_training(whole, optax.sgd(0.1))), get_aggregator("fedavg"))
one, both = ((init_server((), p, *p.task.init(key), 1), p) for p in (split, alone))
(a, loss_a), (b, loss_b) = (
    federated_round((), p, server, batches(1), jnp.ones(1), jnp.arange(1), key) for server, p in (one, both)
)
np.testing.assert_allclose(a.params["w"], b.params["l"]["w"], rtol=1e-5)
np.testing.assert_allclose(a.model_state["v"], b.params["h"]["v"], rtol=1e-5)
np.testing.assert_allclose(loss_a, loss_b, rtol=1e-5)

# With several, under a learned rule: the server's half never reaches the aggregator, a dropped client leaves no trace.
parts = assemble(task, in_two_halves(halves, 0.1, 6, 4), get_aggregator("fedlagg-set"))
theta = parts.aggregator.init_theta(key)
server = init_server(theta, parts, *task.init(key), 5)
after, loss = federated_round(
    theta, parts, server, batches(3), jnp.array([1.0, 0.0, 2.0]), jnp.array([4, 0, 2]), key)
assert np.isfinite(loss) and np.any(after.model_state["v"] != server.model_state["v"])
assert traffic(parts, server.params) == Traffic(*[32.0 * 15 + 32.0 * 4 * 6 * 3] * 2)
"""

ADDITION = Addition(files={"federated/split_work.py": WORK}, edits=(), script=SCRIPT)
