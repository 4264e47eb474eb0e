"""Fine-tuning the whole encoder with all labels and a linear head on its features; and the same from scratch."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from learned_aggregation.federated.clients.adamw_matrices import adamw_matrices
from learned_aggregation.ssl.probes import Probed, in_chunks
from learned_aggregation.ssl.probes.linear import accuracy
from learned_aggregation.types import Key, ModelState, Params

STEPS = 200
BATCH = 64
RATE = 1e-3


def finetune(probed: Probed, key: Key) -> Float[Array, ""]:
    """200 steps of AdamW along a cosine from 1e-3, batches of 64, from the trained parameters, frozen ones too."""
    return _trained(probed, probed.params, probed.model_state, key)


def scratch(probed: Probed, key: Key) -> Float[Array, ""]:
    """The control: the same training from new parameters."""
    return _trained(probed, *probed.task.init(jax.random.fold_in(key, 1)), key)


def _trained(probed: Probed, params: Params, model_state: ModelState, key: Key) -> Float[Array, ""]:
    data, features = probed.data, probed.task.features
    assert features is not None, "check_probes"
    width = probed.features[0].shape[-1]
    # The model's state too: it is where the frozen parameters are.
    start = (
        params,
        model_state,
        {"kernel": jnp.zeros((width, probed.sizes.num_classes)), "bias": jnp.zeros(probed.sizes.num_classes)},
    )
    optimizer = adamw_matrices(optax.cosine_decay_schedule(RATE, STEPS))

    def scores(whole, batch) -> Array:
        params, model_state, head = whole
        return features(params, model_state, batch) @ head["kernel"] + head["bias"]

    def loss(whole, rows) -> Array:
        batch = jax.tree.map(lambda leaf: leaf[rows], data.train.batch)
        found = scores(whole, batch)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(found, data.train.labels[rows]))

    def step(carry, step_key):
        whole, state = carry
        rows = jax.random.randint(step_key, (BATCH,), 0, len(data.train.labels))
        updates, state = optimizer.update(jax.grad(loss)(whole, rows), state, whole)
        return (optax.apply_updates(whole, updates), state), None

    (whole, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), jax.random.split(key, STEPS))
    found = in_chunks(lambda batch: scores(whole, batch), data.test.batch, probed.sizes.chunk)
    return accuracy(found, data.test.labels)
