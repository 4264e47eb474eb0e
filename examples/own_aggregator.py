"""An aggregator of one's own, with an option that is tuned: a step along the median of the clients' deltas.

Run: python examples/own_aggregator.py [ROUNDS; 50]
"""

import sys

import jax
import jax.numpy as jnp

import learned_aggregation as la

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 50


def median(*, rate: float = 1.0) -> la.Aggregator:
    """params <- params + rate * median_k(delta_k), over the clients that did not drop out.

    Source: Yin et al., "Byzantine-Robust Distributed Learning", ICML 2018, Algorithm 1.
    """

    def update(theta, client_update, state, params):
        there = client_update.weight > 0

        def middle(delta):  # [K, ...]
            kept = jnp.where(there.reshape(-1, *[1] * (delta.ndim - 1)), delta, jnp.nan)
            return rate * jnp.nanmedian(kept, axis=0)

        return jax.tree.map(middle, client_update.delta), state

    return la.Aggregator(lambda key: (), lambda theta, params: (), update)


result = la.compare(
    {
        "FedAvg": {"optimizer": "fedavg", "sweep": {"local_learning_rate": [1.0, 0.5]}},
        "median": {"optimizer": median, "sweep": {"rule_options.rate": [1.0, 2.0]}},
    },
    task="mlp32_digits_8", partition="dirichlet", num_clients=16, num_grads=8, num_local_steps=4, local_batch_size=32,
    num_inner_steps=ROUNDS, num_runs=3,
)  # fmt: skip
for row in result.table.rows():
    print(f"{row['entrant']}, tuned {row['tuned']}: test loss {row['test_loss']:.4f}")
