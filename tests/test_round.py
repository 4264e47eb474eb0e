"""The round over its parts: who keeps what, what is compressed, what is frozen, and what crosses the wire."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_close, regression_batches, regression_task, small_tree

from learned_aggregation import get_aggregator
from learned_aggregation.errors import UserError
from learned_aggregation.federated.client_work import independently
from learned_aggregation.federated.compression import compress
from learned_aggregation.federated.local_training import local_training
from learned_aggregation.federated.parts import assemble
from learned_aggregation.federated.round import federated_round, init_server, traffic
from learned_aggregation.problems.freezing import freeze
from learned_aggregation.types import Aggregator, Compressor, ServerWork, Traffic

POPULATION, COHORT, STEPS, BATCH = 5, 2, 3, 4


def adamw_parts(keep=True, **more):
    """Clients with AdamW, whose moments tell how often each of them has trained."""
    task = regression_task()
    clients = independently(local_training(task, optax.adamw(0.01), keep_state=keep))
    return assemble(task, clients, get_aggregator("fedavg"), **more)


def batches(seed, clients=COHORT):
    return regression_batches(jax.random.key(seed), clients, STEPS, BATCH)


def a_round(parts, server, ids, weight=None, seed=0, data=None):
    ids = jnp.asarray(ids)
    weight = jnp.ones(len(ids)) if weight is None else jnp.asarray(weight)
    data = batches(seed, len(ids)) if data is None else data
    return federated_round((), parts, server, data, weight, ids, jax.random.key(seed))


def counts(server):
    """How many local steps each client of the population has taken in all."""
    return np.asarray(server.clients.work[0].count)


def test_client_state_belongs_to_clients_not_to_places_in_the_cohort():
    parts = adamw_parts()
    server = init_server((), parts, small_tree(), (), POPULATION)
    for ids in ([3, 1], [1, 4], [1, 3]):
        server, _ = a_round(parts, server, ids)
    np.testing.assert_array_equal(counts(server), np.array([0, 3, 0, 2, 1]) * STEPS)


def test_a_client_meets_its_own_state_again_wherever_it_stands():
    """Client 2 trains twice: first in place 0, then in place 1 beside another, or alone in place 0 both times."""
    parts = adamw_parts()
    start = init_server((), parts, small_tree(), (), POPULATION)
    first, _ = a_round(parts, start, [2, 0])
    data = batches(7)
    swapped = jax.tree.map(lambda leaf: leaf[::-1], data)
    one, _ = a_round(parts, first, [2, 3], data=data)
    other, _ = a_round(parts, first, [3, 2], data=swapped)
    moments = [jax.tree.map(lambda leaf: leaf[2], server.clients.work) for server in (one, other)]
    assert_close(*moments)
    assert_close(one.params, other.params)


def test_a_client_that_drops_out_keeps_all_of_what_it_had():
    """Also where its training went to NaN, and also what its compressor remembers."""
    parts = adamw_parts(compressor=remembering())
    server = init_server((), parts, small_tree(), (), POPULATION)
    server, _ = a_round(parts, server, [0, 1])
    data = batches(3)
    broken = jax.tree.map(lambda leaf: leaf.at[1].set(jnp.nan), data)
    after, loss = a_round(parts, server, [0, 1], [1.0, 0.0], data=broken)
    for leaf, before in zip(jax.tree.leaves(after.clients), jax.tree.leaves(server.clients), strict=True):
        np.testing.assert_array_equal(leaf[1], before[1])
    assert np.all(np.isfinite(counts(after)))
    assert counts(after)[0] == 2 * STEPS
    assert np.isfinite(loss)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(after))


def remembering():
    """A compressor that sends halves and remembers the sum of all that it was given."""

    def encode(tree, feedback, key):
        return jax.tree.map(lambda x: x / 2, tree), jax.tree.map(jnp.add, feedback, tree)

    def bits(params):
        return 16.0 * sum(leaf.size for leaf in jax.tree.leaves(params))

    return Compressor(lambda params: jax.tree.map(jnp.zeros_like, params), encode, lambda m: m, bits)


def test_what_each_client_sends_is_compressed_and_its_feedback_is_its_own():
    parts, plain = adamw_parts(compressor=remembering()), adamw_parts()
    data = batches(0)
    server, _ = a_round(parts, init_server((), parts, small_tree(), (), POPULATION), [4, 2], data=data)
    whole, _ = a_round(plain, init_server((), plain, small_tree(), (), POPULATION), [4, 2], data=data)
    moved = jax.tree.map(lambda p, q: 2 * (p - q), server.params, small_tree())
    assert_close(moved, jax.tree.map(jnp.subtract, whole.params, small_tree()))
    remembered = np.abs(np.asarray(server.clients.feedback["w"])).sum(axis=(1, 2))
    assert list(np.flatnonzero(remembered)) == [2, 4]


def test_the_server_s_step_is_compressed_on_its_way_down():
    parts, plain = adamw_parts(server_compressor=remembering()), adamw_parts()
    data = batches(0)
    server, _ = a_round(parts, init_server((), parts, small_tree(), (), POPULATION), [4, 2], data=data)
    whole, _ = a_round(plain, init_server((), plain, small_tree(), (), POPULATION), [4, 2], data=data)
    step = jax.tree.map(jnp.subtract, whole.params, small_tree())
    assert_close(jax.tree.map(lambda p, q: 2 * (p - q), server.params, small_tree()), step)
    assert_close(server.feedback, step, atol=1e-6)


def test_a_compressor_s_derivative_is_that_of_sending_all():
    """Sending only signs has no derivative; training through it has that of sending all."""
    signs = Compressor(
        lambda p: (), lambda t, f, k: (jax.tree.map(jnp.sign, t), f), lambda m: m, lambda p: 0.0
    )

    def loss(rate, compressor):
        task = regression_task()
        local = local_training(task, optax.sgd(rate))
        parts = assemble(task, independently(local), get_aggregator("fedavg"), compressor=compressor)
        server = init_server((), parts, small_tree(), (), COHORT)
        server, _ = a_round(parts, server, [0, 1])
        return sum(jnp.sum(leaf * (i + 1)) for i, leaf in enumerate(jax.tree.leaves(server.params)))

    plain, through = (jax.grad(loss)(0.1, compressor) for compressor in (None, signs))
    assert plain != 0
    np.testing.assert_allclose(through, plain, rtol=1e-5)
    assert loss(0.1, None) != loss(0.1, signs)


def test_a_number_that_does_not_arrive_has_no_derivative():
    """Rules that divide by the size of what they get are as steep as can be at 0: gradients would explode there."""

    def first_alone(tree):
        return jax.tree.map(lambda x: jnp.zeros_like(x).at[0].set(x[0] + 1.0), tree)

    lossy = Compressor(lambda p: (), lambda t, f, k: (first_alone(t), f), lambda m: m, lambda p: 0.0)
    sent, pulled = jax.vjp(lambda x: compress(lossy, x, (), jax.random.key(0))[0], jnp.array([2.0, 5.0]))
    assert sent.tolist() == [3.0, 0.0]
    assert pulled(jnp.ones(2))[0].tolist() == [1.0, 0.0]


def test_the_server_works_after_the_aggregation_and_keeps_its_state():
    def run(server, update, key):
        params = jax.tree.map(lambda leaf: leaf + jnp.mean(update.loss), server.params)
        return server._replace(params=params, work=server.work + 1)

    parts = adamw_parts(server_work=ServerWork(lambda params: jnp.int32(0), run))
    plain = adamw_parts()
    server = init_server((), parts, small_tree(), (), POPULATION)
    after, loss = a_round(parts, server, [0, 1])
    alone, _ = a_round(plain, init_server((), plain, small_tree(), (), POPULATION), [0, 1])
    assert after.work == 1
    assert_close(after.params, jax.tree.map(lambda leaf: leaf + loss, alone.params))


def test_traffic_is_what_the_compressors_count_and_the_model_s_state():
    task = regression_task()
    with_state = task._replace(init=lambda key: (small_tree(), {"mean": jnp.zeros(10)}))
    clients = independently(local_training(with_state, optax.sgd(0.1)))
    parts = assemble(with_state, clients, get_aggregator("fedavg"), compressor=remembering())
    assert traffic(parts, small_tree()) == Traffic(9 * 16 + 320, 9 * 32 + 320)
    assert traffic(adamw_parts(), small_tree()) == Traffic(9 * 32, 9 * 32)


# Freezing


def frozen_run(rule, optimizer=None, mask=None, rounds=3, **options):
    task = regression_task()
    local = local_training(task, optimizer or optax.sgd(0.1))
    aggregator = get_aggregator(rule, **options)
    parts = freeze(assemble(task, independently(local), aggregator), mask or {"w": True, "b": False})
    params, state = parts.task.init(jax.random.key(0))
    theta = aggregator.init_theta(jax.random.key(1))
    server = init_server(theta, parts, params, state, COHORT)
    step = jax.jit(functools.partial(federated_round, theta, parts))
    for seed in range(rounds):
        server, _ = step(
            server, batches(seed), jnp.array([1.0, 3.0]), jnp.arange(COHORT), jax.random.key(seed)
        )
    return parts, server


@pytest.mark.parametrize("rule", ["fedavg", "fedlagg", "fedlagg-set"])
def test_what_is_frozen_never_moves_and_the_rest_does(rule):
    options = {"num_grads": COHORT, "hidden_size": 4} if rule != "fedavg" else {}
    _, server = frozen_run(rule, optax.adamw(0.01, weight_decay=0.5), **options)
    np.testing.assert_array_equal(server.model_state.frozen["w"], small_tree()["w"])
    assert server.params["w"] is None
    assert np.all(server.params["b"] != small_tree()["b"])


def test_training_beside_frozen_parameters_is_training_with_them_held():
    """The others move as if the frozen ones had a gradient of zero."""
    _, server = frozen_run("fedavg")
    task = regression_task()

    def held(params, model_state, key, batch):
        return task.loss({**params, "w": small_tree()["w"]}, model_state, key, batch)

    stopped = task._replace(loss=held)
    parts = assemble(
        stopped, independently(local_training(stopped, optax.sgd(0.1))), get_aggregator("fedavg")
    )
    plain = init_server((), parts, small_tree(), (), COHORT)
    for seed in range(3):
        plain, _ = a_round(parts, plain, [0, 1], [1.0, 3.0], seed)
    assert_close(server.params["b"], plain.params["b"])


def test_what_is_frozen_crosses_no_wire_and_is_evaluated():
    parts, server = frozen_run("fedavg")
    assert traffic(parts, server.params) == Traffic(3 * 32, 3 * 32)
    same = parts.task.evaluate(server.params, server.model_state, jax.random.key(0), batches(0))
    whole = {"w": small_tree()["w"], "b": server.params["b"]}
    assert_close(same, regression_task().evaluate(whole, (), jax.random.key(0), batches(0)))


@pytest.mark.parametrize(
    ("step", "state", "message"),
    [
        (lambda params: {"w": params["w"]}, lambda state: state, r"a step like params, got \['b'\] missing"),
        (
            lambda params: {**params, "b": jnp.ones(())},
            lambda state: state,
            r".* got \['b'\] \(\) in the place of \(3,\)",
        ),
        (lambda params: params, lambda state: (1,), "an agg_state like the one before"),
    ],
)
def test_what_an_aggregator_returns_has_the_form_of_what_it_got(step, state, message):
    """A leaf of another shape would broadcast, and the model change in silence."""

    def update(theta, update, agg_state, params):
        return step(params), state(agg_state)

    parts = adamw_parts()._replace(aggregator=Aggregator(lambda key: (), lambda theta, params: (), update))
    server = init_server((), parts, small_tree(), (), POPULATION)
    with pytest.raises(UserError, match=f"aggregator: expected an update that returns {message}"):
        jax.eval_shape(lambda: a_round(parts, server, [0, 1]))
