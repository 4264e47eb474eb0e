"""The Flower strategy with a rule that reads sums: each reply is added as it arrives, and none is kept."""

import time
import weakref

import numpy as np
import pytest
from flower_clients import (
    MODEL,
    NODES,
    Clients,
    advance,
    arrays_of,
    cohort,
    fedavgm,
    identify,
    learned,
    quiet,
    record,
)
from flwr.app import MessageType
from helpers import assert_close

from learned_aggregation.integrations.flower.grid import OneByOne


@pytest.fixture(autouse=True)
def identity(monkeypatch):
    identify(monkeypatch)


class AllAtOnce:
    """The same rule with `update` alone, as a rule of someone else's may be."""

    def __init__(self, rule):
        self.init, self.update, self.name = rule.init, rule.update, rule.name


RULES = {"fedlagg-set": learned("fedlagg-set"), "fedlopt-adafac": learned(), "fedavgm": fedavgm()}


@pytest.mark.parametrize("name", RULES)
def test_sums_give_the_model_that_replies_give(name):
    """In other orders, with a reply that is left out, a client that is missing, a counter and running statistics."""
    extra = {"seen": np.int64(7), "bn.running_mean": np.float32([1, 2]), "scalar": np.float64(0.5)}
    server = held = MODEL | extra
    sums, replies = (
        quiet(rule, averaged=["*running_mean"]) for rule in (RULES[name], AllAtOnce(RULES[name]))
    )
    for number, order in ((1, [3, 1, 0, 2]), (2, [2, 0, 1]), (3, [0, 1, 2, 3])):
        clients = cohort(server, count=len(order), seed=10 * number)
        if number == 3:
            clients[min(clients)][0]["dense/bias"][0] = np.nan
        server, metrics = advance(sums, server, clients, number, order)
        held, expected = advance(replies, held, clients, number)
        assert_close(server, held, rtol=1e-5, atol=1e-6)
        assert [(leaf.dtype, leaf.shape) for leaf in server.values()] == [
            (leaf.dtype, leaf.shape) for leaf in held.values()
        ]
        assert list(server) == list(held)
        assert dict(metrics) == dict(expected)
    assert not np.allclose(server["dense/kernel"], MODEL["dense/kernel"], atol=1e-3), "the rule never moved"


class Counting(Clients):
    """Counts the train replies that are still alive when the next one is asked for."""

    def __init__(self, **options):
        super().__init__(**options)
        self.given, self.alive = [], []

    def pull_messages(self, message_ids):
        replies = super().pull_messages(message_ids)
        train = [one for one in replies if one.metadata.message_type == MessageType.TRAIN]
        if train:
            self.alive.append(sum(one() is not None for one in self.given))
        self.given += [weakref.ref(one) for one in train]
        return replies


def test_no_reply_is_kept():
    """Each is gone before the next one is pulled; a rule that reads every delta gets them all at once."""
    clients = Counting()
    quiet(RULES["fedlagg-set"]).start(clients, record(MODEL), num_rounds=2)
    assert clients.most == 1
    assert clients.alive == [0] * 8
    clients = Counting()
    quiet(AllAtOnce(RULES["fedlagg-set"])).start(clients, record(MODEL), num_rounds=1)
    assert clients.most == 4


def test_a_run_in_other_orders_is_the_same_but_for_rounding():
    models = []
    for shuffle in (1, 2):
        result = quiet(RULES["fedlagg-set"]).start(Clients(shuffle=shuffle), record(MODEL), num_rounds=4)
        models.append(arrays_of(result.arrays))
    assert_close(models[1], models[0], rtol=1e-4, atol=1e-6)


def test_a_client_that_never_answers_is_waited_for_until_the_timeout(caplog):
    clients = Clients(lost=lambda number, node: node == NODES[0])
    begun = time.monotonic()
    quiet(RULES["fedavgm"]).start(clients, record(MODEL), num_rounds=1, timeout=0.3)
    assert 0.3 <= time.monotonic() - begun < 30
    assert "aggregate_train: 3 replies used, 0 left out" in caplog.text


class Inbox:
    """A grid of strings: what was pushed is answered once `now` has come to its time."""

    pull_interval = 0.0

    def __init__(self, times):
        self.times, self.now, self.pulls = times, 0, 0

    def push_messages(self, messages):
        return [None if name == "refused" else name for name in messages]

    def pull_messages(self, message_ids):
        self.pulls += 1
        self.now += 1
        return [f"reply to {name}" for name in message_ids if self.times[name] <= self.now]

    def get_node_ids(self):
        return [1, 2]


def test_replies_come_as_they_arrive():
    grid = Inbox({"late": 5, "early": 0, "soon": 3})
    pulled = OneByOne(grid).send_and_receive(["late", "refused", "early", "soon"])
    assert grid.pulls == 0, "nothing is pulled before it is asked for"
    assert next(pulled) == "reply to early"
    assert grid.pulls == 2
    assert list(pulled) == ["reply to soon", "reply to late"]
    assert OneByOne(grid).get_node_ids() == [1, 2]
    assert list(OneByOne(grid).send_and_receive([])) == []


def test_a_slow_server_loses_no_reply_that_came_in_time():
    """The time is up while the first client is added; the others have answered long since."""
    grid = Inbox({"a": 0, "b": 3, "c": 3, "never": 1e9})
    found = []
    for reply in OneByOne(grid).send_and_receive(["a", "b", "c", "never"], timeout=0.05):
        found.append(reply)
        time.sleep(0.1)
    assert found == ["reply to a", "reply to c", "reply to b"]
