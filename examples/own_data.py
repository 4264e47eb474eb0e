"""Data, a model and a loss of one's own: FedAvg and a pretrained aggregator on them, from arrays with client ids.

Run: python examples/own_data.py [ROUNDS; 50]
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

import learned_aggregation as la

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 50

# 16 clients with 100 examples each: points on a noisy curve, each client on its part of it.
random = np.random.default_rng(0)
client = np.repeat(np.arange(16), 100)
x = (client / 8 - 1 + random.uniform(0, 0.3, client.size)).astype(np.float32)
y = (np.sin(5 * x) + 0.1 * random.normal(size=client.size)).astype(np.float32)
data = {"features": np.stack([x, x**2], axis=1), "target": y[:, None], "client": client}


class Net(nn.Module):
    outputs: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.outputs)(nn.tanh(nn.Dense(32)(x)))


def huber(outputs, batch):
    """The Huber loss of each example, and whether the prediction is within 0.2."""
    error = jnp.abs(outputs - batch["target"])[:, 0]
    loss = jnp.where(error < 0.5, error**2, error - 0.25)
    return {"loss": loss, "within": (error < 0.2).astype(jnp.float32)}


result = la.compare(
    {
        "FedAvg": {"optimizer": "fedavg", "sweep": {"local_learning_rate": [0.3, 0.1, 0.03]}},
        "lagg-set": {"test_checkpoint": "lagg-set", "optimizer": "fedlagg-set"},
    },
    model=Net, data=data, loss=huber, partition="natural", num_clients=16,
    num_grads=8, num_local_steps=4, local_batch_size=16, local_learning_rate=0.1, num_inner_steps=ROUNDS, num_runs=3,
)  # fmt: skip
for row in result.table.rows():
    print(f"{row['entrant']}: test loss {row['test_loss']:.4f}, within 0.2: {row['test_within']:.2f}")
print(f"report: {result.directory}/report.html; {jax.device_count()} device")
