"""The meta-tester: batched jobs equal single ones, evaluation covers the whole split."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_aggregation.aggregators import get_aggregator
from learned_aggregation.aggregators.fedavg import fedavg
from learned_aggregation.data.federated import to_federated
from learned_aggregation.devices.parallel import job_mesh
from learned_aggregation.federated.client_work import independently
from learned_aggregation.federated.clients.adamw import adamw
from learned_aggregation.federated.clients.sgd import sgd
from learned_aggregation.federated.local_training import local_training
from learned_aggregation.federated.parts import assemble
from learned_aggregation.federated.round import federated_round, init_server
from learned_aggregation.meta_testing.evaluation import chunked, evaluate_split
from learned_aggregation.meta_testing.program import Budget, Program, Setting, Shared
from learned_aggregation.problems.inner_problem import RoundSizes, draw_round
from learned_aggregation.tasks import make_task


@pytest.fixture(scope="module")
def digits():
    return make_task("mlp4_digits_8")


@pytest.fixture(scope="module")
def shared(digits):
    _, dataset = digits
    train, valid = dataset.splits["train"], dataset.splits["outer_valid"]
    pool = to_federated(train, [np.arange(len(train.examples["label"]))])
    return Shared((), pool, {"outer_valid": chunked(jax.tree.map(jnp.asarray, valid.examples), 100)})


def slowmo(task):
    def make_parts(rates):
        clients = independently(local_training(task, sgd(rates["local_learning_rate"])))
        return assemble(task, clients, get_aggregator("fedavg-slowmo", **rates))

    return make_parts


def run(digits, shared, rates, seeds, rounds=7, every=3, chunk=None):
    setting = Setting(RoundSizes(2, 2, 8), slowmo(digits[0]))
    return Program(setting, Budget(rounds, every, chunk), job_mesh(1, 1)).run(
        shared, rates, np.asarray(seeds)
    )


RATES = {
    "local_learning_rate": np.array([0.5, 0.5, 0.1]),
    "slowmo_learning_rate": np.array([0.5, 0.2, 0.1]),
    "beta": np.array([0.0, 0.5, 0.9]),
}


@pytest.fixture(scope="module")
def batch(digits, shared):
    return run(digits, shared, RATES, [0, 0, 1])


def test_curves_have_every_round_and_every_evaluation(batch):
    assert batch.train_loss.shape == (3, 7)
    assert batch.eval_rounds.tolist() == [0, 3, 6, 7]
    assert batch.evaluated["outer_valid_loss"].shape == (3, 4)
    assert np.all(np.isfinite(batch.train_loss))
    # jobs of one seed start from the same model and are paired
    np.testing.assert_array_equal(*batch.evaluated["outer_valid_loss"][:2, 0])
    assert batch.evaluated["outer_valid_loss"][0, 0] != batch.evaluated["outer_valid_loss"][2, 0]


@pytest.mark.parametrize("chunk", [None, 1])
def test_a_job_does_not_depend_on_its_neighbours(digits, shared, batch, chunk):
    """One point alone gives what it gave in the batch: a sweep is as good as single runs."""
    alone = run(digits, shared, {name: values[1:2] for name, values in RATES.items()}, [0], chunk=chunk)
    np.testing.assert_allclose(alone.train_loss[0], batch.train_loss[1], rtol=1e-5)
    np.testing.assert_allclose(
        alone.evaluated["outer_valid_loss"][0], batch.evaluated["outer_valid_loss"][1], rtol=1e-5
    )


@pytest.mark.parametrize("chunk", [1, 7, 100, 250, 1000])
def test_evaluation_is_the_mean_over_the_whole_split(digits, chunk):
    task, dataset = digits
    examples = jax.tree.map(jnp.asarray, dataset.splits["test"].examples)
    params, state = task.init(jax.random.key(0))
    expected = {
        name: values.mean()
        for name, values in task.evaluate(params, state, jax.random.key(0), examples).items()
    }
    found = evaluate_split(task, params, state, *chunked(examples, chunk))
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5)


def test_dropped_clients_have_no_weight_and_one_always_stays(shared):
    sizes = RoundSizes(4, 1, 2, dropout=0.9)
    weights = jax.vmap(lambda k: draw_round(shared.train, k, sizes)[1])(
        jax.random.split(jax.random.key(0), 500)
    )
    taking_part = np.asarray(weights > 0).sum(axis=1)
    assert taking_part.min() == 1
    assert np.mean(taking_part) == pytest.approx(4 * (1 - 0.9 * 0.75), rel=0.1)
    full = draw_round(shared.train, jax.random.key(0), RoundSizes(4, 1, 2))[1]
    assert np.all(full > 0)


@pytest.mark.parametrize(("keep", "equal"), [(True, True), (False, False)])
def test_clients_that_keep_their_optimizer_s_state_go_on_where_they_were(digits, keep, equal):
    """With one client and FedAvg, two rounds of two local AdamW steps are one round of four, if the state is kept."""
    task, dataset = digits
    parts = assemble(task, independently(local_training(task, adamw(1e-2), keep_state=keep)), fedavg())
    params, model_state = task.init(jax.random.key(0))
    examples = {name: jnp.asarray(x[:16]) for name, x in dataset.splits["train"].examples.items()}

    def train(steps_of_rounds):
        server, start = init_server((), parts, params, model_state, 1), 0
        for steps in steps_of_rounds:
            batches = {
                n: x[start : start + 4 * steps].reshape(1, steps, 4, *x.shape[1:])
                for n, x in examples.items()
            }
            server, _ = federated_round(
                (), parts, server, batches, jnp.ones(1), jnp.arange(1), jax.random.key(1)
            )
            start += 4 * steps
        return server.params["Dense_1"]["kernel"]

    difference = np.abs(train([2, 2]) - train([4])).max()
    assert (difference < 1e-6) == equal


def test_a_dropped_client_leaves_no_trace_even_if_it_diverged(digits):
    """Its NaN must not reach the mean, the loss or the next model: 0 * NaN would."""
    task, dataset = digits
    parts = assemble(task, independently(local_training(task, sgd(0.1))), fedavg())
    params, model_state = task.init(jax.random.key(0))
    images = jnp.asarray(dataset.splits["train"].examples["image"][:8], jnp.float32) / 16
    labels = jnp.asarray(dataset.splits["train"].examples["label"][:8])
    batches = {"image": images.reshape(2, 1, 4, 8, 8, 1), "label": labels.reshape(2, 1, 4)}
    broken = batches | {"image": batches["image"].at[1].set(jnp.nan)}

    def train(batches, weight):
        server = init_server((), parts, params, model_state, len(weight))
        return federated_round((), parts, server, batches, weight, jnp.arange(len(weight)), jax.random.key(1))

    server, loss = train(broken, jnp.array([1.0, 0.0]))
    alone, loss_alone = train(jax.tree.map(lambda x: x[:1], batches), jnp.ones(1))
    np.testing.assert_allclose(loss, loss_alone, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), server.params, alone.params)
