"""A run of the Flower strategy that goes on from its state file, and what it refuses."""

import jax.numpy as jnp
import numpy as np
import pytest
from flower_clients import MODEL, NODES, Clients, arrays_of, fedavgm, identify, learned, quiet, record
from flwr.app import MetricRecord

from learned_aggregation import DropIn
from learned_aggregation.errors import RunError, UserError
from learned_aggregation.integrations.flower.state import ServerRecord, load_record, save_record


@pytest.fixture(autouse=True)
def identity(monkeypatch):
    identify(monkeypatch)


@pytest.mark.parametrize("clients", [None, 4])
def test_a_run_that_goes_on_equals_one_undisturbed(tmp_path, clients):
    """With lost replies and other node ids; every bit of model and metrics.

    Also with other reply orders, for a rule that reads every delta; sums depend on them in the last digit.
    """
    rule = learned() if clients is None else learned("fedlagg-adafac", num_grads=clients)
    assert rule.one_at_a_time == (clients is None)

    def lost(number, node):
        return number == 2 and node == NODES[1]

    def grid(shuffle):
        return Clients(lost=lost, shuffle=0 if rule.one_at_a_time else shuffle)

    def measure(number, arrays):
        return MetricRecord({"round": number, "sum": float(arrays_of(arrays)["dense/kernel"].sum())})

    options = {"timeout": 0.05, "evaluate_fn": measure}
    whole = quiet(rule).start(grid(1), record(MODEL), num_rounds=5, **options)
    file = tmp_path / "deep" / "state.safetensors"
    quiet(rule, state_file=file).start(grid(2), record(MODEL), num_rounds=3, **options)
    late = grid(3)
    strategy = quiet(rule, state_file=file)
    rest = strategy.start(late, record(MODEL), num_rounds=5, **options)
    for name in MODEL:
        np.testing.assert_array_equal(arrays_of(rest.arrays)[name], arrays_of(whole.arrays)[name])
    assert set(late.rounds) == {4, 5}
    assert strategy.round == 5
    assert list(rest.arrays) == list(MODEL)
    for kind in ("train_metrics_clientapp", "evaluate_metrics_clientapp"):
        assert sorted(getattr(rest, kind)) == [4, 5]
        assert getattr(rest, kind)[5] == getattr(whole, kind)[5]
    assert rest.evaluate_metrics_serverapp[3] == whole.evaluate_metrics_serverapp[3]
    assert [m["round"] for m in rest.evaluate_metrics_serverapp.values()] == [3, 4, 5]
    done = quiet(rule, state_file=file).start(grid(4), record(MODEL), num_rounds=5)
    np.testing.assert_array_equal(
        arrays_of(done.arrays)["dense/kernel"], arrays_of(whole.arrays)["dense/kernel"]
    )


def test_a_state_of_something_else_is_refused(tmp_path):
    file = tmp_path / "state.safetensors"
    quiet(fedavgm(), state_file=file).start(Clients(), record(MODEL), num_rounds=1)  # fmt: skip
    with pytest.raises(UserError, match=r"state.safetensors: expected the state of fedavg, got fedavgm\. "):
        quiet(DropIn("fedavg"), state_file=file).start(Clients(), record(MODEL), num_rounds=2)
    other = {**MODEL, "dense/bias": np.zeros(4, np.float32)}
    same_rule = quiet(fedavgm(), state_file=file)
    with pytest.raises(UserError, match=r"expected arrays/dense/bias float32 \(4,\), got float32 \(3,\)"):
        same_rule.start(Clients(), record(other), num_rounds=2)
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(UserError, match=r"cannot be read .*move it away"):
        same_rule.start(Clients(), record(MODEL), num_rounds=2)
    file.write_bytes(b"")
    with pytest.raises(UserError, match="cannot be read"):
        same_rule.start(Clients(), record(MODEL), num_rounds=2)


class Exploding:
    """Doubles as a rule without a name and a number of clients."""

    def init(self, params):
        return {"rounds": jnp.int32(0)}

    def update(self, params, deltas, weights, state):
        rounds = state["rounds"] + 1
        bad = np.where(rounds > 2, np.nan, 0.5)
        return {name: np.float32(leaf + bad) for name, leaf in params.items()}, {"rounds": rounds}


def test_a_model_that_is_not_finite_ends_the_run_and_keeps_the_last_good_one(tmp_path):
    file = tmp_path / "state.safetensors"
    with pytest.raises(RunError, match=r"round 3: expected Exploding to give a finite model, got NaN"):
        quiet(Exploding(), state_file=file).start(Clients(), record(MODEL), num_rounds=4)
    saved = quiet(Exploding(), state_file=file).start(Clients(), record(MODEL), num_rounds=2)
    np.testing.assert_allclose(arrays_of(saved.arrays)["dense/bias"], np.ones(3))


def test_a_flipped_bit_in_a_state_is_refused(tmp_path):
    """A checksum of arrays and metadata: another model, silently, is worse than none."""
    path, like = tmp_path / "state", ServerRecord(3, "fedavg", {"a": np.ones(2, np.float32)}, ())
    save_record(path, like)
    assert load_record(path, like).round == 3
    content = bytearray(path.read_bytes())
    content[-2] ^= 0x40
    path.write_bytes(content)
    with pytest.raises(UserError, match="a file that cannot be read"):
        load_record(path, like)
