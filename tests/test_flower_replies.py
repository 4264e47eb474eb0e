"""The Flower strategy's cohort: which replies count, in which order, and what stands in for the missing ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flower_clients import (
    MODEL,
    NODES,
    Clients,
    advance,
    arrays_of,
    cohort,
    core_round,
    identify,
    learned,
    message,
    quiet,
    record,
    reply,
    stacked_deltas,
)
from flwr.app import (
    ConfigRecord,
    Error,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from helpers import assert_close


@pytest.fixture(autouse=True)
def identity(monkeypatch):
    identify(monkeypatch)


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
