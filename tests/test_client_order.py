"""Clients one after another or side by side: who does which, and that both give the same."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_aggregation.federated import client_order, client_work
from learned_aggregation.federated.client_order import in_turn
from learned_aggregation.federated.client_work import independently
from learned_aggregation.federated.local_training import local_training
from learned_aggregation.tasks.flax_task import cross_entropy, flax_task
from learned_aggregation.tasks.models.conv import ConvNet
from learned_aggregation.tasks.models.mlp import MLP
from learned_aggregation.tasks.models.resnet import ResNet, _Depth
from learned_aggregation.tasks.models.transformer import Transformer
from learned_aggregation.tasks.models.vit import VisionTransformer
from learned_aggregation.types import ClientState, Server

CLIENTS, STEPS, BATCH, CLASSES = 3, 2, 4, 5
MODELS = {
    "mlp": MLP((6, 7), CLASSES),
    "conv": ConvNet((4, 6), CLASSES),
    "resnet": ResNet(_Depth((1, 0, 0, 0), False), False, CLASSES, width=8),
    "vit": VisionTransformer(3, 8, 16, 2, 1, CLASSES),
    "transformer": Transformer(8, 16, 2, 2, CLASSES),
}


def task(name):
    text = name == "transformer"
    example = jnp.zeros((1, 7), jnp.int32) if text else jnp.zeros((1, 6, 6, 2))

    def measure(logits, batch):
        if text:
            return {"loss": jnp.mean(logits[..., 0] ** 2, axis=-1)}
        return cross_entropy(logits, batch["label"])

    return flax_task(name, MODELS[name], example, lambda batch: batch["x"], measure)


def batches(name):
    rng, lead = np.random.default_rng(0), (CLIENTS, STEPS, BATCH)
    label = jnp.asarray(rng.integers(CLASSES, size=lead))
    if name == "transformer":
        return {"x": jnp.asarray(rng.integers(CLASSES, size=(*lead, 7))), "label": label}
    return {"x": jnp.asarray(rng.normal(size=(*lead, 6, 6, 2)), jnp.float32), "label": label}


@pytest.mark.parametrize("name", MODELS)
def test_all_but_mlps_run_in_turn(name, monkeypatch):
    monkeypatch.setattr(client_order, "SMALL", 0)
    one = task(name)
    server = Server(*one.init(jax.random.key(0)), (), ClientState((), ()))
    assert in_turn(one, server, batches(name), jax.random.key(0)) == (name != "mlp")


@pytest.mark.parametrize("images", [1, 4])
def test_small_ones_run_side_by_side(images, monkeypatch):
    """What one step's two convolutions and the last layer read and write, counted by hand for the images of a batch."""
    first = images * (6 * 6 * 2 + 3 * 3 * 4) + 3 * 3 * 2 * 4
    second = images * (3 * 3 * 4 + 3 * 3 * 6) + 3 * 3 * 4 * 6
    last = images * (6 + CLASSES) + 6 * CLASSES
    one, total = task("conv"), CLIENTS * 4 * (first + second + last)
    server = Server(*one.init(jax.random.key(0)), (), ClientState((), ()))
    data = jax.tree.map(lambda leaf: leaf[:, :, :images], batches("conv"))
    for small, expected in ((total, False), (total - 1, True)):
        monkeypatch.setattr(client_order, "SMALL", small)
        assert in_turn(one, server, data, jax.random.key(0)) is expected


def test_side_by_side_on_other_backends(monkeypatch):
    monkeypatch.setattr(client_order, "SMALL", 0)
    one = task("conv")
    server = Server(*one.init(jax.random.key(0)), (), ClientState((), ()))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert not in_turn(one, server, batches("conv"), jax.random.key(0))


@pytest.mark.parametrize("name", ["conv", "transformer"])
def test_both_orders_agree(name, monkeypatch):
    """Deltas, and the derivative of what follows from them with respect to the server's parameters and the rate."""
    one, data = task(name), batches(name)
    params, state = one.init(jax.random.key(0))

    def found():
        @jax.jit
        @jax.vmap  # over the points of a sweep
        @jax.value_and_grad
        def run(rate):
            work = independently(local_training(one, optax.sgd(rate)))
            update, _ = work.run(
                Server(params, state, (), ClientState((), ())), data, jnp.ones(CLIENTS), (), jax.random.key(0)
            )
            return sum(jnp.sum(jnp.sin(30.0 * leaf)) for leaf in jax.tree.leaves(update.delta))

        return run(jnp.array([0.05, 0.1]))

    monkeypatch.setattr(client_work, "in_turn", lambda *_: True)
    turned = found()
    monkeypatch.setattr(client_work, "in_turn", lambda *_: False)
    for a, b in zip(turned, found(), strict=True):
        assert np.all(np.abs(b) > 1e-3)
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-4)
