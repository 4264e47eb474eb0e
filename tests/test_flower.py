"""The Flower strategy with messages made by hand; no Ray, no processes."""

import json
import random
import subprocess
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close

pytest.importorskip("flwr", reason="make test-flower")

from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Error,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from flwr.supercore.task_identity import TaskIdentity

from learned_aggregation import DropIn, get_aggregator
from learned_aggregation.errors import RunError, UserError
from learned_aggregation.integrations.flower import LearnedAggregation, from_record, to_record
from learned_aggregation.types import ClientUpdate


@pytest.fixture(autouse=True)
def identity(monkeypatch):
    """What Flower sets before it calls a ServerApp; messages carry it."""
    for name, value in (("_run_id", 1), ("_node_id", 1), ("_task_id", 1)):
        monkeypatch.setattr(TaskIdentity, name, value)


MODEL = {
    "dense/kernel": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3),
    "dense/bias": np.zeros(3, np.float32),
}
NODES = (71, 13, 42, 99)


def record(arrays) -> ArrayRecord:
    return ArrayRecord({name: Array(np.asarray(leaf)) for name, leaf in arrays.items()})


def arrays_of(given: ArrayRecord) -> dict[str, np.ndarray]:
    return {name: array.numpy() for name, array in given.items()}


def learned(name="fedlopt-adafac", **options) -> DropIn:
    """A rule with a fresh theta, whose network is made large enough to move the model."""
    options = {"hidden_size": 4, **options}
    theta = get_aggregator(name, **options).init_theta(jax.random.key(3))
    theta["nn"] = {leaf: 5.0 * weights for leaf, weights in theta["nn"].items()}
    return DropIn(name, theta, options=options)


def fedavgm() -> DropIn:
    return DropIn("fedavgm", options={"learning_rate": 1.0, "beta": 0.9})


def quiet(aggregator, **options) -> LearnedAggregation:
    return LearnedAggregation(aggregator, **{"min_available_nodes": 1, "min_train_nodes": 1, **options})


def trained(arrays, seed: int) -> dict[str, np.ndarray]:
    """What a client might make of the server's arrays."""
    draw = np.random.default_rng(seed)
    return {
        name: (leaf + 0.1 * draw.normal(size=leaf.shape)).astype(leaf.dtype)
        if leaf.dtype.kind == "f"
        else leaf + seed
        for name, leaf in arrays.items()
    }


def reply(to: Message, arrays, **metrics) -> Message:
    content = {"arrays": record(arrays)} if arrays is not None else {}
    return Message(RecordDict({**content, "metrics": MetricRecord(metrics)}), reply_to=to)


def message(node: int, kind=MessageType.TRAIN) -> Message:
    return Message(RecordDict(), dst_node_id=node, message_type=kind)


class Clients(Grid):
    """Nodes that answer at once, each round in another order; what `lost` tells is never answered."""

    def __init__(self, nodes=NODES, lost=lambda number, node: False, shuffle=0):
        self.nodes, self.lost, self.order = nodes, lost, random.Random(shuffle)
        self.rounds = []

    def set_run(self, run) -> None: ...

    @property
    def run(self):
        raise NotImplementedError

    def create_message(self, *_, **__):
        raise NotImplementedError

    def push_messages(self, messages):
        raise NotImplementedError

    def pull_messages(self, message_ids):
        raise NotImplementedError

    def get_node_ids(self):
        return list(self.nodes)

    def send_and_receive(self, messages, *, timeout=None):
        replies = []
        for sent in messages:
            number, node = sent.content["config"]["server-round"], sent.metadata.dst_node_id
            if self.lost(number, node):
                continue
            place = self.nodes.index(node)
            if sent.metadata.message_type == MessageType.EVALUATE:
                replies.append(reply(sent, None, **{"num-examples": 1 + place, "loss": float(place)}))
                continue
            self.rounds.append(number)
            arrays = trained(arrays_of(sent.content["arrays"]), 10 * number + place)
            metrics = {"num-examples": 5 + place, "client-id": place, "train-loss": float(place)}
            replies.append(reply(sent, arrays, **metrics))
        self.order.shuffle(replies)
        return replies


def advance(strategy, server, clients, number=1, order=None):
    """One round by hand. clients: node -> (arrays, metrics). The next arrays, or None."""
    strategy.configure_train(number, record(server), ConfigRecord(), Clients(tuple(clients) or NODES))
    replies = [reply(message(node), *given[:1], **given[1]) for node, given in clients.items()]
    arrays, metrics = strategy.aggregate_train(number, [replies[i] for i in order] if order else replies)
    return (None if arrays is None else arrays_of(arrays)), metrics


def cohort(server, count=4, seed=0, **more):
    """node -> (arrays, metrics) with unequal weights."""
    weights = (3, 1, 5, 2)
    return {
        node: (trained(server, seed + k), {"num-examples": weights[k], "loss": 1.0, **more})
        for k, node in enumerate(sorted(NODES)[:count])
    }


def core_round(rule: DropIn, server, deltas, weights, state):
    """The core's Aggregator.update on stacked deltas."""
    update = ClientUpdate(deltas, (), jnp.zeros(len(weights)), jnp.asarray(weights, jnp.float32))
    step, state = jax.jit(rule.rule.update)(rule.theta, update, state, server)
    return jax.tree.map(jnp.add, server, step), state


def stacked_deltas(server, given):
    return {name: jnp.stack([a[name] - server[name] for a, _ in given]) for name in server}


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


def test_replies_in_any_order_give_the_same_bits():
    results = []
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        results.append(
            advance(quiet(learned("fedlagg-adafac", num_grads=4)), MODEL, cohort(MODEL), order=order)
        )
    for name in MODEL:
        np.testing.assert_array_equal(results[0][0][name], results[1][0][name])


def test_client_ids_order_the_clients_before_node_ids():
    """New node ids, as after a restart: the same bits, for a rule that tells the clients apart."""
    clients = [given for _, given in sorted(cohort(MODEL).items())]
    results = []
    for nodes in ((1, 2, 3, 4), (9, 7, 5, 8)):
        named = {
            n: (a, {**m, "client-id": k}) for k, (n, (a, m)) in enumerate(zip(nodes, clients, strict=True))
        }
        results.append(advance(quiet(learned("fedlagg-adafac", num_grads=4)), MODEL, named)[0])
    np.testing.assert_array_equal(results[0]["dense/kernel"], results[1]["dense/kernel"])
    swapped = dict(zip((4, 3, 2, 1), clients, strict=True))
    other = advance(quiet(learned("fedlagg-adafac", num_grads=4)), MODEL, swapped)[0]
    assert not np.array_equal(other["dense/kernel"], results[0]["dense/kernel"]), (
        "the order makes no difference"
    )


def test_the_order_of_clients_is_the_aggregators_order():
    seen = []

    class Spy:
        def init(self, params):
            return ()

        def update(self, params, deltas, weights, state):
            seen.append((deltas["b"][:, 0].tolist(), weights.tolist()))
            return params, state

    server = {"b": np.zeros(1, np.float32)}
    clients = {
        50: ({"b": np.float32([5])}, {"num-examples": 1}),
        40: ({"b": np.float32([4])}, {"num-examples": 2, "client-id": 8}),
        30: ({"b": np.float32([3])}, {"num-examples": 3}),
        20: ({"b": np.float32([2])}, {"num-examples": 4, "client-id": 9}),
    }
    advance(quiet(Spy()), server, clients)
    assert seen == [([4.0, 2.0, 3.0, 5.0], [2.0, 4.0, 3.0, 1.0])]


BIAS = "dense/bias"
SPOILED = {  # (arrays, metrics) -> those of a reply to leave out; a part of the log's line
    "nan": (lambda a, m: ({**a, BIAS: np.float32([0, np.nan, 0])}, m), "NaN or infinity"),
    "infinity": (lambda a, m: ({**a, BIAS: np.float32([0, np.inf, 0])}, m), "NaN or infinity"),
    "beyond float32": (lambda a, m: ({**a, BIAS: np.float64([0, 1e300, 0])}, m), "NaN or infinity"),
    "shape": (lambda a, m: ({**a, BIAS: np.zeros(4, np.float32)}, m), "is (4,), not (3,)"),
    "missing array": (lambda a, m: ({"dense/kernel": a["dense/kernel"]}, m), "'dense/bias' is missing"),
    "extra array": (lambda a, m: ({**a, "x": np.zeros(1)}, m), "'x' is (1,), not missing"),
    "strings": (lambda a, m: ({**a, BIAS: np.array(["a", "b", "c"])}, m), "holds <U1"),
    "no arrays": (lambda a, m: (None, m), "0 records of type ArrayRecord"),
    "no weight": (lambda a, m: (a, {"loss": 1.0}), "'num-examples' is missing"),
    "weight 0": (lambda a, m: (a, {**m, "num-examples": 0}), "num-examples is 0"),
    "negative weight": (lambda a, m: (a, {**m, "num-examples": -1}), "num-examples is -1"),
    "weight nan": (lambda a, m: (a, {**m, "num-examples": float("nan")}), "num-examples is nan"),
    "weight list": (lambda a, m: (a, {**m, "num-examples": [1, 2]}), "not a number"),
}


@pytest.fixture(scope="module")
def any_clients():
    return learned()


@pytest.mark.parametrize("kind", SPOILED)
def test_a_bad_reply_is_left_out(kind, any_clients, caplog):
    clients = cohort(MODEL)
    bad = max(clients)
    spoil, reason = SPOILED[kind]
    rest = {node: given for node, given in clients.items() if node != bad}
    expected, _ = advance(quiet(any_clients), MODEL, rest)
    got, _ = advance(quiet(any_clients), MODEL, {**rest, bad: spoil(*clients[bad])})
    for name in MODEL:
        np.testing.assert_array_equal(got[name], expected[name])
    assert f"node {bad} is left out: " in caplog.text
    assert reason in caplog.text


def test_error_replies_and_unreadable_arrays_are_left_out(any_clients, caplog):
    clients = cohort(MODEL)
    first, second = sorted(clients)[:2]
    rest = {node: given for node, given in clients.items() if node not in (first, second)}
    expected, _ = advance(quiet(any_clients), MODEL, rest)
    strategy = quiet(any_clients)
    strategy.configure_train(1, record(MODEL), ConfigRecord(), Clients())
    garbled = record(clients[second][0])
    garbled["dense/bias"].data = b"\x93NUMPY nonsense"
    replies = [
        Message(Error(0, "out of memory"), reply_to=message(first)),
        Message(
            RecordDict({"arrays": garbled, "metrics": MetricRecord(clients[second][1])}),
            reply_to=message(second),
        ),
        *(reply(message(node), arrays, **metrics) for node, (arrays, metrics) in rest.items()),
    ]
    arrays, _ = strategy.aggregate_train(1, iter(replies))
    for name in MODEL:
        np.testing.assert_array_equal(arrays_of(arrays)[name], expected[name])
    assert f"node {first} is left out: error 0: out of memory" in caplog.text
    assert f"node {second} is left out: an array that cannot be read" in caplog.text


def test_a_rule_for_k_clients_finds_the_mean_in_the_empty_places():
    rule = learned("fedlagg-adafac", num_grads=4)
    clients = cohort(MODEL, count=2)
    given = [clients[node] for node in sorted(clients)]
    weights = np.float32([metrics["num-examples"] for _, metrics in given])
    deltas = stacked_deltas(MODEL, given)
    mean = {name: np.average(leaf, axis=0, weights=weights) for name, leaf in deltas.items()}
    filled = {name: jnp.stack([*leaf, mean[name], mean[name]]) for name, leaf in deltas.items()}
    all_weights = [*weights, weights.mean(), weights.mean()]
    server = jax.tree.map(jnp.asarray, MODEL)
    expected, _ = core_round(rule, server, filled, all_weights, rule.rule.init(rule.theta, server))
    got, _ = advance(quiet(rule), MODEL, clients)
    assert_close(got, {name: np.asarray(leaf) for name, leaf in expected.items()}, rtol=0, atol=1e-6)
    for name, leaf in filled.items():  # the policy's point: the cohort's mean stays
        np.testing.assert_allclose(np.average(leaf, axis=0, weights=all_weights), mean[name], atol=1e-6)


def test_a_rule_for_k_clients_never_asks_more():
    sent = quiet(learned("fedlagg-adafac", num_grads=2)).configure_train(
        1, record(MODEL), ConfigRecord(), Clients()
    )
    assert len(list(sent)) == 2
    assert len(list(quiet(learned()).configure_train(1, record(MODEL), ConfigRecord(), Clients()))) == 4


def test_a_round_without_replies_is_skipped(any_clients, caplog):
    strategy, undisturbed = quiet(any_clients), quiet(any_clients)
    server, _ = advance(strategy, MODEL, cohort(MODEL), 1)
    assert advance(strategy, server, {}, 2) == (None, None)
    assert "round 2 leaves the model as it is" in caplog.text
    assert strategy.round == 2
    got, _ = advance(strategy, server, cohort(server, seed=5), 3)
    advance(undisturbed, MODEL, cohort(MODEL), 1)
    expected, _ = advance(undisturbed, server, cohort(server, seed=5), 2)
    for name in MODEL:
        np.testing.assert_array_equal(got[name], expected[name])


@pytest.mark.parametrize("clients", [None, 4])
def test_a_run_that_goes_on_equals_one_undisturbed(tmp_path, clients):
    """With lost replies, other reply orders and other node ids; every bit of model and metrics."""
    rule = learned() if clients is None else learned("fedlagg-adafac", num_grads=clients)

    def lost(number, node):
        return number == 2 and node == NODES[1]

    def grid(shuffle):
        return Clients(lost=lost, shuffle=shuffle)

    def measure(number, arrays):
        return MetricRecord({"round": number, "sum": float(arrays_of(arrays)["dense/kernel"].sum())})

    whole = quiet(rule).start(grid(1), record(MODEL), num_rounds=5, evaluate_fn=measure)
    file = tmp_path / "deep" / "state.safetensors"
    quiet(rule, state_file=file).start(grid(2), record(MODEL), num_rounds=3, evaluate_fn=measure)
    late = grid(3)
    strategy = quiet(rule, state_file=file)
    rest = strategy.start(late, record(MODEL), num_rounds=5, evaluate_fn=measure)
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


def test_evaluation_is_averaged_and_tolerates_other_metrics():
    strategy = quiet(learned())
    sent = [message(node, MessageType.EVALUATE) for node in NODES]
    replies = [
        reply(
            sent[0], None, **{"num-examples": 1, "loss": 2.0, "client-id": 5, "mine": 1.0, "each": [1.0, 2.0]}
        ),
        reply(sent[1], None, **{"num-examples": 3, "loss": 6.0, "client-id": 9, "each": [1.0]}),
        Message(Error(0, "gone"), reply_to=sent[2]),
    ]
    assert dict(strategy.aggregate_evaluate(1, replies)) == {"loss": 5.0}
    assert strategy.aggregate_evaluate(1, replies[2:]) is None


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
