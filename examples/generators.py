"""A client leaves, and what it knew stays: `python examples/generators.py [EPOCHS]`.

Two clients hold five digits each, as sounds. The first trains a generator of its embeddings and leaves; the server trains a
model on the second client's embeddings and on the samples that the first one left.
"""

import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_aggregation.generators.adapter import adapter_task
from learned_aggregation.generators.base import Training
from learned_aggregation.generators.client import GeneratorClient, Kind
from learned_aggregation.generators.stand_ins import digits
from learned_aggregation.generators.store import conditions, divided, standardised, trained_on
from learned_aggregation.generators.vae import ConditionedVAEGenerator

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 60
store = standardised(digits())
known = conditions(store)
left, stays = divided(store, trained_on(store)[0], "disjoint", 2)

rows = np.random.default_rng(0).permutation(left)[: len(left) // 32 * 32].reshape(-1, 32)
batches = {"audio": store.audio[rows], "clip": store.clip[rows], "label": store.label[rows]}
with tempfile.TemporaryDirectory() as folder:
    vae = ConditionedVAEGenerator(hidden_dim=128, latent_dim=16)
    kind = Kind(vae, "vae", Training(epochs, epochs / 2), Path(folder), samples_per_class=50)
    client = GeneratorClient(0, kind, jax.random.key(0), jax.tree.map(jnp.asarray, batches))
    client.train_node_generator()
    client.save_generator_checkpoint()
    samples = client.generate_synthetic_samples({int(c): known[c] for c in np.unique(store.label[left])})

task = adapter_task("a2v_digits", jnp.asarray(known), 512, 4, 64)
optimizer = optax.adam(1e-3)


def accuracy(audio: np.ndarray, label: np.ndarray) -> float:
    """On the test examples of the classes that left, after 200 steps on what is given."""

    def step(carry, key):
        params, state = carry
        ids = jax.random.randint(key, (32,), 0, len(label))
        batch = {"audio": jnp.asarray(audio)[ids], "label": jnp.asarray(label)[ids]}
        gradient = jax.grad(lambda p: task.loss(p, (), key, batch)[0])(params)
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(params, updates), state), None

    params, _ = task.init(jax.random.key(1))
    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), jax.random.split(jax.random.key(2), 200))
    test = np.flatnonzero(store.is_test & np.isin(store.label, store.label[left]))
    batch = {"audio": jnp.asarray(store.audio[test]), "label": jnp.asarray(store.label[test])}
    return float(task.evaluate(params, (), jax.random.key(0), batch)["accuracy"].mean())


alone = accuracy(store.audio[stays], store.label[stays])
labels = np.repeat(list(samples), 50).astype(np.int32)
both = accuracy(
    np.concatenate([store.audio[stays], *samples.values()]), np.concatenate([store.label[stays], labels])
)
print(f"accuracy on the classes that left: {alone:.3f} without samples, {both:.3f} with them")
