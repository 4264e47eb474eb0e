"""The Flower strategy's rounds against the core's, and what it takes and gives."""

import json
import subprocess
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flower_clients import (
    MODEL,
    Clients,
    advance,
    cohort,
    core_round,
    fedavgm,
    identify,
    learned,
    quiet,
    record,
    stacked_deltas,
)
from flwr.app import ConfigRecord
from flwr.serverapp.strategy import FedAvg
from helpers import assert_close

from learned_aggregation import DropIn
from learned_aggregation.errors import UserError
from learned_aggregation.integrations.flower import from_record, to_record
from learned_aggregation.pretrained.drop_in import OutsideTrainedRange


@pytest.fixture(autouse=True)
def identity(monkeypatch):
    identify(monkeypatch)


@pytest.mark.parametrize(
    "rule",
    [learned(), learned("fedlagg-adafac", num_grads=4), fedavgm()],
    ids=lambda rule: rule.name,
)  # fmt: skip
def test_a_round_equals_the_core(rule):
    strategy = quiet(rule)
    server, expected = MODEL, jax.tree.map(jnp.asarray, MODEL)
    state = rule.rule.init(rule.theta, expected)
    for number in (1, 2, 3):
        clients = cohort(server, seed=10 * number)
        given = [clients[node] for node in sorted(clients)]
        weights = [metrics["num-examples"] for _, metrics in given]
        deltas = stacked_deltas(server, given)
        expected, state = core_round(rule, expected, deltas, weights, state)
        server, metrics = advance(strategy, server, clients, number)
        assert_close(server, {name: np.asarray(leaf) for name, leaf in expected.items()}, rtol=0, atol=1e-6)
        assert dict(metrics) == {"loss": 1.0}
    assert not np.allclose(server["dense/kernel"], MODEL["dense/kernel"], atol=1e-3), "the rule never moved"


def test_counters_and_running_statistics_are_averaged():
    mean, seen = "layer.running_mean", "layer.num_batches_tracked"
    server = {
        mean: np.zeros(2, np.float32),
        seen: np.int64(7),
        "layer.weight": np.ones(2, np.float16),
        "wide": np.ones(2, np.float64),
    }
    clients = {
        1: ({**server, mean: np.float32([1, 2]), seen: np.int64(9)}, {"num-examples": 1}),
        2: ({**server, mean: np.float32([5, 2]), seen: np.int64(10)}, {"num-examples": 3}),
    }
    strategy = quiet(fedavgm(), averaged=["*running_mean"])
    got, _ = advance(strategy, server, clients)
    assert list(got) == list(server)
    assert {name: (leaf.dtype, leaf.shape) for name, leaf in got.items()} == {
        name: (leaf.dtype, leaf.shape) for name, leaf in server.items()
    }
    np.testing.assert_allclose(got[mean], [4, 2])
    assert got[seen] == 10
    np.testing.assert_array_equal(got["layer.weight"], 1)


def test_the_strategy_is_flowers(capsys):
    strategy = quiet(learned(), fraction_evaluate=0.0)
    assert isinstance(strategy, FedAvg)
    assert strategy.configure_evaluate(1, record(MODEL), ConfigRecord(), Clients()) == []


def test_a_name_or_a_path_is_loaded(tmp_path):
    from learned_aggregation.pretrained.theta_file import save_theta

    rule = learned()
    save_theta(tmp_path / "t.safetensors", rule.theta, {"optimizer": rule.name, "hidden_size": 4})
    expected, _ = advance(quiet(rule), MODEL, cohort(MODEL))
    got, _ = advance(quiet(str(tmp_path / "t.safetensors")), MODEL, cohort(MODEL))
    np.testing.assert_array_equal(got["dense/kernel"], expected["dense/kernel"])
    with pytest.raises(UserError, match="no-such-aggregator"):
        quiet("no-such-aggregator")


def test_more_rounds_than_it_was_meta_trained_for_are_told():
    rule = DropIn("fedavg", name="mine", trained={"num_rounds": (1, 1)})
    with pytest.warns(OutsideTrainedRange, match="mine: meta-trained with num_rounds 1, used with 2"):
        quiet(rule).start(Clients(), record(MODEL), num_rounds=2)


class Layer(NamedTuple):
    kernel: jax.Array
    scale: jax.Array


def test_records_keep_a_pytree():
    tree = {
        "a": Layer(jnp.arange(6.0).reshape(2, 3).T, jnp.float32(2)),
        "b": [jnp.bfloat16(1.5), jnp.arange(3)],
    }
    sent = to_record(tree)
    assert list(sent) == ["a/kernel", "a/scale", "b/0", "b/1"]
    back = from_record(sent, tree)
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x, y, strict=True), back, tree)
    with pytest.raises(UserError, match=r"ArrayRecord: expected array 'a/scale' \(1,\), got \(\)"):
        from_record(sent, {**tree, "a": Layer(tree["a"].kernel, jnp.zeros(1))})
    with pytest.raises(UserError, match="initial_arrays: expected floats or integers, got bool in 'm'"):
        quiet(learned()).start(Clients(), record({"m": np.ones(2, bool)}), num_rounds=1)


def test_importing_the_strategy_changes_nothing():
    """Neither the environment nor what runs: Ray is not even loaded."""
    program = (
        "import os, sys; before = dict(os.environ); import learned_aggregation.integrations.flower;"
        "import json; print(json.dumps([before == dict(os.environ), 'ray' in sys.modules]))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert json.loads(printed.splitlines()[-1]) == [True, False]
