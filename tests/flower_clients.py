"""Clients of a Flower server that answer at once with messages made by hand; no Ray, no processes.

Without flwr, what imports this is skipped.
"""

import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("flwr", reason="make test-flower")

from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from learned_aggregation import DropIn, get_aggregator
from learned_aggregation.integrations.flower import LearnedAggregation
from learned_aggregation.types import ClientUpdate

MODEL = {
    "dense/kernel": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3),
    "dense/bias": np.zeros(3, np.float32),
}
NODES = (71, 13, 42, 99)


def identify(monkeypatch) -> None:
    """What Flower sets before it calls a ServerApp; messages carry it."""
    for name, value in (("_run_id", 1), ("_node_id", 1), ("_task_id", 1)):
        monkeypatch.setattr(TaskIdentity, name, value)


def record(arrays) -> ArrayRecord:
    return ArrayRecord({name: Array(np.asarray(leaf)) for name, leaf in arrays.items()})


def arrays_of(sent: ArrayRecord) -> dict[str, np.ndarray]:
    return {name: array.numpy() for name, array in sent.items()}


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
    """Nodes that answer at once, each round in another order; what `lost` tells is waited for until the timeout.

    most: the largest number of train replies that were pulled at once.
    """

    pull_interval = 0.01

    def __init__(self, nodes=NODES, lost=lambda number, node: False, shuffle=0):
        self.nodes, self.lost, self.shuffle = nodes, lost, shuffle
        self.rounds, self.waiting, self.most = [], {}, 0

    def set_run(self, run) -> None: ...

    @property
    def run(self):
        raise NotImplementedError

    def create_message(self, *_, **__):
        raise NotImplementedError

    def get_node_ids(self):
        return list(self.nodes)

    def push_messages(self, messages):
        messages = sorted(messages, key=lambda sent: sent.metadata.dst_node_id)  # FedAvg's order is random
        if messages:
            number = messages[0].content["config"]["server-round"]
            random.Random(f"{self.shuffle} {number}").shuffle(messages)
        sent = [f"{len(self.waiting)}-{n}" for n in range(len(messages))]
        self.waiting |= dict(zip(sent, messages, strict=True))
        return sent

    def pull_messages(self, message_ids):
        answers = [self.answer(self.waiting.pop(one)) for one in list(message_ids) if one in self.waiting]
        replies = [one for one in answers if one is not None]
        self.most = max(self.most, sum(one.metadata.message_type == MessageType.TRAIN for one in replies))
        return replies

    def answer(self, sent):
        number, node = sent.content["config"]["server-round"], sent.metadata.dst_node_id
        if self.lost(number, node):
            return None
        place = self.nodes.index(node)
        if sent.metadata.message_type == MessageType.EVALUATE:
            return reply(sent, None, **{"num-examples": 1 + place, "loss": float(place)})
        self.rounds.append(number)
        arrays = trained(arrays_of(sent.content["arrays"]), 10 * number + place)
        metrics = {"num-examples": 5 + place, "client-id": place, "train-loss": float(place)}
        return reply(sent, arrays, **metrics)

    def send_and_receive(self, messages, *, timeout=None):
        return self.pull_messages(self.push_messages(messages))


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
