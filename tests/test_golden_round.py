"""Federated rounds of FedAvg and SlowMo against the published reference (golden file v)."""

import golden
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_aggregation import get_aggregator
from learned_aggregation.federated.client_work import independently
from learned_aggregation.federated.local_training import local_training
from learned_aggregation.federated.parts import assemble
from learned_aggregation.federated.round import federated_round, init_server
from learned_aggregation.tasks.models.mlp import mlp
from learned_aggregation.tasks.objectives.classification import classification
from learned_aggregation.types import Dataset, Split

ROUNDS = (1, 2, 3)


def digits_task():
    """MLP 64-32-10; the golden images are model inputs already."""
    shapes = Split({"image": np.zeros((1, 8, 8, 1), np.float32), "label": np.zeros(1, np.int32)})
    return classification("mlp32", mlp("32", 10), Dataset("golden", {"train": shapes}, 10))


def make_aggregator(name: str, arrays: dict):
    if name == "fedavg":
        return get_aggregator(name)
    return get_aggregator(
        name,
        slowmo_learning_rate=float(arrays["slowmo_learning_rate"]),
        beta=float(arrays["beta"]),
        local_learning_rate=float(arrays["local_lr"]),
    )


def assert_change_matches(moved, before, after):
    """Relative to the round's change: the parameters themselves hardly move."""

    def check(moved, before, after):
        change = np.float64(after) - np.float64(before)
        rounding = 2.4e-7 * np.max(np.abs(after))  # of two float32 parameters
        atol = 1e-5 * np.max(np.abs(change)) + rounding
        np.testing.assert_allclose(np.float64(moved) - np.float64(before), change, rtol=1e-5, atol=atol)

    jax.tree.map(check, dict(moved), before, after)


@pytest.mark.parametrize(("file", "name"), [("v_fedavg", "fedavg"), ("v_slowmo", "fedavg-slowmo")])
def test_three_rounds_match_the_reference(file, name):
    arrays = golden.load(file)
    clients, steps, batch = (int(arrays[size]) for size in "KHB")
    aggregator = make_aggregator(name, arrays)
    task = digits_task()
    parts = assemble(
        task, independently(local_training(task, optax.sgd(float(arrays["local_lr"])))), aggregator
    )
    params = jax.tree.map(jnp.asarray, golden.mlp_params(arrays, "round0/params"))
    server = init_server((), parts, params, {}, clients)
    one_round = jax.jit(
        lambda server, batches, key: federated_round(
            (), parts, server, batches, jnp.ones(clients), jnp.arange(clients), key
        )
    )
    for t in ROUNDS:
        batches = {
            field: arrays[f"batch{t}/{field}"].reshape(
                clients, steps, batch, *arrays[f"batch{t}/{field}"].shape[1:]
            )
            for field in ("image", "label")
        }
        server, loss = one_round(server, batches, jax.random.key(t))
        assert float(loss) == pytest.approx(float(arrays[f"round{t}/loss"]), rel=1e-5)
        before, after = (golden.mlp_params(arrays, f"round{r}/params") for r in (t - 1, t))
        assert_change_matches(server.params, before, after)
        if name == "fedavg-slowmo":
            expected = golden.mlp_params(arrays, f"round{t}/momentum")
            jax.tree.map(
                lambda ours, theirs: np.testing.assert_allclose(
                    ours, theirs, rtol=1e-5, atol=1e-5 * np.max(np.abs(theirs))
                ),
                dict(server.agg_state),
                expected,
            )
