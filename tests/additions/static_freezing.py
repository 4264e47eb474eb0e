"""Static freezing, written from outside as a wrapper Parts -> Parts."""

from additions import Addition

WRAPPER = '''"""`hold`: named parameters stay where they are."""

from learned_aggregation.aggregators.masking import masked
from learned_aggregation.types import Parts


def hold(parts: Parts, mask) -> Parts:
    """The aggregator is never given the masked parameters; clients may still move their own copies within a round."""
    return parts._replace(aggregator=masked(parts.aggregator, mask))
'''

SCRIPT = """
import sys
import jax, jax.numpy as jnp, numpy as np, optax
import learned_aggregation
from learned_aggregation import get_aggregator
from learned_aggregation.federated.client_work import independently
from learned_aggregation.federated.local_training import local_training
from learned_aggregation.federated.parts import assemble
from learned_aggregation.federated.round import federated_round, init_server
from learned_aggregation.problems.holding import hold
from learned_aggregation.tasks import make_task

assert learned_aggregation.__path__ == [sys.argv[1]]
task, data = make_task("mlp4_digits_8")
params, state = task.init(jax.random.key(0))
examples = {name: jnp.asarray(leaf[:16]).reshape(2, 2, 4, *leaf.shape[1:])
            for name, leaf in data.splits["train"].examples.items()}
for rule in ("fedavg", "fedlagg-set"):
    plain = assemble(task, independently(local_training(task, optax.adamw(0.01))), get_aggregator(rule))
    parts = hold(plain, {"Dense_0": True, "Dense_1": False})
    theta = parts.aggregator.init_theta(jax.random.key(0))
    server = init_server(theta, parts, params, state, 2)
    server, _ = federated_round(theta, parts, server, examples, jnp.ones(2), jnp.arange(2), jax.random.key(0))
    for leaf in ("kernel", "bias"):
        np.testing.assert_array_equal(server.params["Dense_0"][leaf], params["Dense_0"][leaf])
        assert np.any(server.params["Dense_1"][leaf] != params["Dense_1"][leaf])
"""

ADDITION = Addition(files={"problems/holding.py": WRAPPER}, edits=(), script=SCRIPT)
