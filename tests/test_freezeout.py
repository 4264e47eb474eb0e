"""FreezeOut: the schedule, layers that are frozen under every rule, phases, what is sent."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import CLASSICAL
from jax.sharding import Mesh

from learned_aggregation import get_aggregator
from learned_aggregation.aggregators import AGGREGATORS
from learned_aggregation.devices.parallel import job_mesh
from learned_aggregation.errors import UserError
from learned_aggregation.federated.client_work import independently
from learned_aggregation.federated.clients import LOCAL_OPTIMIZERS
from learned_aggregation.federated.compressors import get_compressor
from learned_aggregation.federated.local_training import local_training
from learned_aggregation.federated.parts import assemble
from learned_aggregation.federated.round import federated_round, init_server, traffic
from learned_aggregation.meta_testing.program import Budget, Phase, Program, Saving, Setting, Shared
from learned_aggregation.problems.freezeout import (
    FreezeOut,
    changes,
    check_freezeout,
    formula_cost,
    lr_ratio,
    phased_cost,
    rate_factor,
)
from learned_aggregation.problems.inner_problem import RoundSizes
from learned_aggregation.problems.phases import Length, enter, freezeout
from learned_aggregation.ssl import habits
from learned_aggregation.types import FederatedData, Task

LAYERS, ROUNDS, STEPS, CLIENTS = 3, 12, 3, 4
PLAN = FreezeOut(t0=0.5, power="linear", phases=2)
LENGTH = Length(ROUNDS, STEPS)


def toy():
    """A chain of matrices with the names of a vision transformer."""

    def init(key):
        keys = jax.random.split(key, LAYERS + 2)
        layers = {f"layer_{i}": {"w": 0.5 * jax.random.normal(keys[i], (3, 3))} for i in range(LAYERS)}
        ends = {"embed": jax.random.normal(keys[-1], (3, 3)), "positions": jnp.ones(3)}
        return {**ends, "layers": layers, "head": jax.random.normal(keys[-2], (3, 2))}, ()

    def outputs(params, x):
        x = x @ params["embed"] + params["positions"]
        for i in range(LAYERS):
            x = jnp.tanh(x @ params["layers"][f"layer_{i}"]["w"])
        return x @ params["head"]

    def evaluate(params, state, key, batch):
        return {"loss": jnp.mean((outputs(params, batch["x"]) - batch["y"]) ** 2, axis=-1)}

    def loss(params, state, key, batch):
        return jnp.mean(evaluate(params, state, key, batch)["loss"]), (state, {})

    return Task("toy", init, loss, evaluate, None)


def straight():
    """A task whose gradient is 1 everywhere: a step is minus the rate."""
    task = toy()

    def loss(params, state, key, batch):
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(params)), (state, {})

    return task._replace(loss=loss)


def parts_of(task, rule, optimizer, frozen, plan=PLAN, keep_state=False, steps=STEPS, **compressors):
    work = independently(local_training(task, optimizer, keep_state))
    return freezeout(assemble(task, work, rule, **compressors), plan, Length(ROUNDS, steps), frozen)


def started(parts, theta=()):
    params, model_state = parts.task.init(jax.random.key(0))
    return init_server(theta, parts, params, model_state, CLIENTS)


def batches(key, steps=STEPS):
    x, y = (
        jax.random.normal(k, (CLIENTS, steps, 5, n))
        for k, n in zip(jax.random.split(key), (3, 2), strict=True)
    )
    return {"x": x, "y": y}


def advance(parts, theta, server, key, steps=STEPS):
    return federated_round(
        theta, parts, server, batches(key, steps), jnp.ones(CLIENTS), jnp.arange(CLIENTS), key
    )[0]


def by_hand(plan, layer, layers, j, total):
    """The notes' formulas, in Python's floats."""
    ratio = (plan.t0 + (1 - plan.t0) * layer / layers) ** {"linear": 1, "squared": 2, "cubic": 3}[plan.power]
    end = ratio * total
    if j >= end:
        return 0.0
    curve = {
        "cosine": 0.5 * (1 + math.cos(math.pi * j / end)),
        "constant": 1.0,
        "cut": 0.5 * (1 + math.cos(math.pi * j / total)),
    }[plan.shape]
    warm = min(1.0, (j + 1) / plan.warmup) if plan.warmup else 1.0
    return curve * warm / (ratio if plan.scale_lr else 1.0)


@pytest.mark.parametrize("power", ["linear", "squared", "cubic"])
@pytest.mark.parametrize("shape", ["cosine", "constant", "cut"])
def test_the_schedule_is_the_formula_for_every_layer_and_iteration(power, shape):
    for plan in (FreezeOut(0.5, power, shape), FreezeOut(0.9, power, shape, scale_lr=False, warmup=7)):
        steps = jnp.arange(97.0)
        for layer in range(13):
            got = jax.vmap(lambda j, p=plan, i=layer: rate_factor(p, i, 12, j, 97))(steps)
            want = [by_hand(plan, layer, 12, j, 97) for j in range(97)]
            np.testing.assert_allclose(got, want, atol=2e-6)
    assert rate_factor(PLAN, 10**6, 12, 96.0, 97) > 0  # heads go on to the end


@pytest.mark.parametrize("keep_state", [False, True])
def test_the_clients_take_it(keep_state):
    """Whole rounds: each tensor moves by the sum of its rates over the round's local steps, to the last round."""
    parts = parts_of(straight(), get_aggregator("fedavg"), optax.sgd(0.1), 0, keep_state=keep_state)
    server, round_of = started(parts), jax.jit(lambda server, key: advance(parts, (), server, key))
    for r in range(ROUNDS):
        before, server = server, round_of(server, jax.random.key(r))
        layers = {"embed": 0, "positions": 0, "head": LAYERS} | {f"layer_{i}": i + 1 for i in range(LAYERS)}
        for name, layer in layers.items():
            old, new = (
                s.params["layers"][name]["w"] if "layer" in name else s.params[name] for s in (before, server)
            )
            rates = [by_hand(PLAN, layer, LAYERS, STEPS * r + h, STEPS * ROUNDS) for h in range(STEPS)]
            np.testing.assert_allclose(new - old, np.full(old.shape, -0.1 * sum(rates)), atol=2e-6)
    assert float(server.model_state.step) == ROUNDS * STEPS


def accumulated(server):
    """What the rule and the clients keep for the head, where their states have its name."""
    named = jax.tree_util.tree_flatten_with_path((server.agg_state, server.clients.work))[0]
    return [leaf for path, leaf in named if "head" in jax.tree_util.keystr(path)]


@pytest.mark.parametrize("name", AGGREGATORS)
def test_a_frozen_layer_is_bit_equal_and_not_sent_under_every_rule(name):
    """With AdamW's weight decay at the clients, whose states are kept, and with what the rule had gathered before."""
    rule = get_aggregator(name, num_grads=CLIENTS, **CLASSICAL.get(name, {}))
    theta = rule.init_theta(jax.random.key(1))
    make = [
        parts_of(toy(), rule, LOCAL_OPTIMIZERS["adamw"](0.05), frozen, keep_state=True) for frozen in (0, 2)
    ]

    @jax.jit
    def run(server):
        server = advance(make[0], theta, server, jax.random.key(2))
        between = enter(theta, make[1], PLAN, 2, server, CLIENTS)
        return server, between, advance(make[1], theta, between, jax.random.key(3))

    begun = started(make[0], theta)
    before, between, after = run(begun)
    still = after.model_state.inner.frozen
    for path in (("embed",), ("positions",), ("layers", "layer_0", "w")):
        was, is_now, gone, first = before.params, still, after.params, begun.params
        for step in path:
            was, is_now, gone, first = was[step], is_now[step], gone[step], first[step]
        assert gone is None  # no gradient, no delta, nothing for a rule to see
        np.testing.assert_array_equal(np.asarray(was).view(np.uint32), np.asarray(is_now).view(np.uint32))
        assert np.any(was != first)  # it had moved before
    assert np.any(before.params["head"] != after.params["head"])
    # What is left of the states is as it was.
    for old, new in zip(accumulated(before), accumulated(between), strict=True):
        np.testing.assert_array_equal(old, new)
    sent = [traffic(make[i], jax.eval_shape(make[i].task.init, jax.random.key(0))[0]).up for i in (0, 1)]
    assert sent[0] - sent[1] == 32 * (9 + 3 + 9)


POWERSGD = get_compressor("powersgd", rank=1)


@pytest.mark.parametrize(
    ("optimizer", "compressors"),
    [
        (LOCAL_OPTIMIZERS["muon"](0.05), {}),
        (habits.accumulated(LOCAL_OPTIMIZERS["adamw"](0.05), 2), {"compressor": POWERSGD}),
        (optax.sgd(0.05), {"server_compressor": POWERSGD}),
    ],
    ids=["muon", "accumulated-powersgd", "powersgd-down"],
)
def test_states_of_tensors_in_other_forms_lose_the_frozen_ones(optimizer, compressors):
    """Muon keeps markers for the tensors that are AdamW's, PowerSGD a row of matrices; a gradient is half gathered."""
    rule = get_aggregator("fedavg")
    parts = [parts_of(toy(), rule, optimizer, frozen, keep_state=True, **compressors) for frozen in (0, 2)]

    @jax.jit
    def run(server):
        before = advance(parts[0], (), server, jax.random.key(2))
        between = enter((), parts[1], PLAN, 2, before, CLIENTS)
        return before, between, advance(parts[1], (), between, jax.random.key(3))

    before, between, after = run(started(parts[0]))
    kept = [
        [leaf for leaf in jax.tree.leaves((server.clients, server.feedback)) if 2 in leaf.shape]
        for server in (before, between)
    ]  # the head's, the only tensor of two columns
    assert compressors or kept[0]
    jax.tree.map(np.testing.assert_array_equal, *kept)
    np.testing.assert_array_equal(after.model_state.inner.frozen["embed"], before.params["embed"])
    for old, new in ((before, between), (between, after)):
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(new.params))
        assert np.any(new.params["head"] != old.params["head"]) == (new is after)


def test_a_state_of_another_form_is_refused_before_the_first_round(program):
    rule = get_aggregator("fedavg")._replace(init=lambda theta, params: list(jax.tree.leaves(params)))
    parts = [parts_of(toy(), rule, optax.sgd(0.1), frozen) for frozen in (0, 2)]
    message = "form of the parameters.* got another form in agg_state. Leave"
    with pytest.raises(UserError, match=message):
        enter((), parts[1], PLAN, 2, started(parts[0]), CLIENTS)
    _, shared, _ = program

    def entered(theta, parts, server):
        return enter(theta, parts, PLAN, 2, server, CLIENTS)

    setting = Setting(
        RoundSizes(CLIENTS, STEPS, 5), lambda _: parts[0], (Phase(6, lambda _: parts[1], entered),)
    )
    made = Program(setting, Budget(ROUNDS, 5), job_mesh(1, 1))
    done = []
    with pytest.raises(UserError, match=message):
        made.run(shared, {"rate": np.ones(1)}, np.arange(1), done.append)
    assert not done


def test_changes_are_never_early_and_the_cost_is_the_formula():
    for layers, plan in ((12, FreezeOut()), (6, FreezeOut(phases=3)), (6, FreezeOut(0.5, "linear"))):
        found = changes(plan, layers, 200, 4)
        assert len(found) <= plan.phases + 1
        for change in found:
            for layer in range(change.frozen):
                assert change.round >= lr_ratio(plan, layer, layers) * 200
        assert formula_cost(plan, layers) <= phased_cost(found, layers, 200)
    assert phased_cost(changes(FreezeOut(), 12, 1000, 4), 12, 1000) < formula_cost(FreezeOut(), 12) + 0.025
    assert round(1 - formula_cost(FreezeOut(), 12), 3) == 0.161
    assert round(1 - formula_cost(FreezeOut(), 6), 3) == 0.147
    assert changes(FreezeOut(t0=1.0), 6, 100, 4) == ((0, 0),)


def test_bad_plans_are_refused():
    for options in (
        {"t1": 0.5},
        {"t0": 0.0},
        {"power": "quartic"},
        {"shape": "square"},
        {"phases": 0},
        {"warmup": 1.5},
    ):
        with pytest.raises(UserError, match="freezing"):
            check_freezeout("freezing", options)
    work = independently(local_training(toy(), optax.sgd(0.1)))
    other = toy()._replace(init=lambda key: ({"w": jnp.ones(3)}, ()))
    with pytest.raises(UserError, match="vision transformer"):
        freezeout(assemble(other, work, get_aggregator("fedavg")), PLAN, LENGTH, 0)


@pytest.fixture(scope="module")
def program():
    found = changes(PLAN, LAYERS, ROUNDS, STEPS)
    rule = get_aggregator("diloco", learning_rate=0.7, beta=0.9)

    def made(frozen):
        return lambda rates: parts_of(toy(), rule, optax.adamw(rates["rate"]), frozen, keep_state=True)

    def phase(change):
        def entered(theta, parts, server):
            return enter(theta, parts, PLAN, change.frozen, server, CLIENTS)

        return Phase(change.round, made(change.frozen), entered)

    setting = Setting(RoundSizes(CLIENTS, STEPS, 5), made(0), tuple(map(phase, found[1:])))
    data = jax.tree.map(lambda leaf: leaf.reshape(-1, leaf.shape[-1]), batches(jax.random.key(9)))
    rows = jnp.arange(len(data["x"])).reshape(CLIENTS, -1)
    train = FederatedData(data, rows, jnp.full(CLIENTS, rows.shape[1]))
    chunks = jax.tree.map(lambda leaf: leaf[None], data)
    shared = Shared((), train, {"test": (chunks, jnp.ones((1, len(data["x"]))))})
    mesh = Mesh(np.array(jax.devices()[:1]), ("jobs",))
    return found, shared, lambda: Program(setting, Budget(ROUNDS, 5), mesh)


def test_a_run_that_is_stopped_anywhere_resumes_bit_for_bit_in_the_right_phase(program):
    found, shared, make = program
    rates, seeds = {"rate": np.array([0.01, 0.02])}, np.array([0, 1])
    made, ends = make(), []
    whole = made.run(shared, rates, seeds, on_end=lambda task, server: ends.append(server))
    boundaries = [change.round for change in found[1:]]
    assert whole.eval_rounds.tolist() == sorted({0, 5, 10, 12, *boundaries})
    for stop_at in (5, boundaries[0], boundaries[1]):
        kept = []

        def load(shapes, kept=kept):
            if kept:
                forms = [
                    jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), saved._replace(done=None))
                    for saved in (shapes(kept[-1].done), kept[-1])
                ]
                assert forms[0] == forms[1]
            return kept[-1] if kept else None

        def save(saved, kept=kept):
            kept.append(jax.tree.map(jnp.array, saved)._replace(done=saved.done))

        def stop(kept=kept, at=stop_at):
            return kept[-1].done == at

        saving = Saving(load, save, stop)
        assert made.run(shared, rates, seeds, saving=saving) is None
        resumed = made.run(
            shared, rates, seeds, saving=saving, on_end=lambda task, server: ends.append(server)
        )
        np.testing.assert_array_equal(resumed.train_loss, whole.train_loss)
        np.testing.assert_array_equal(resumed.evaluated["test_loss"], whole.evaluated["test_loss"])
        jax.tree.map(np.testing.assert_array_equal, ends[0], ends.pop())
    # One program for each phase and length of a segment, whatever was stopped and resumed.
    assert all(segment._cache_size() == 1 for segment in made._segments.values())
