"""The optional CPU kernel of an MLP's local SGD against XLA's program, its oracle."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learned_aggregation import kernels
from learned_aggregation.federated.local_training import local_training
from learned_aggregation.federated.mlp_sgd import sgd_training
from learned_aggregation.kernels import compiled
from learned_aggregation.problems.task_augmentation import augment_task, draw_augmentation
from learned_aggregation.tasks.models.mlp import MLP
from learned_aggregation.tasks.objectives.classification import classification
from learned_aggregation.types import SPLITS, Dataset, Split

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")


@pytest.fixture(autouse=True, scope="module")
def built():
    compiled.build()
    kernels.available.cache_clear()
    assert kernels.available()


def a_task(widths=(12, 7), side=5, channels=2, num_classes=4):
    """With another scale and shift for each channel."""
    split = Split({"image": np.zeros((1, side, side, channels), np.uint8), "label": np.zeros(1, np.int32)})
    scale, shift = tuple(0.01 + 0.002 * i for i in range(channels)), tuple(0.4 * i for i in range(channels))
    dataset = Dataset("made", dict.fromkeys(SPLITS, split), num_classes, scale, shift)
    return classification("made", MLP(tuple(widths), num_classes), dataset)


def batches(seed, shape, side=5, channels=2, num_classes=4, dtype=np.uint8):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*shape, side, side, channels)).astype(dtype)
    if dtype != np.uint8:
        image = (image / 128 - 1).astype(dtype)
    return {"image": jnp.asarray(image), "label": jnp.asarray(rng.integers(0, num_classes, shape))}


def trained(task, rate, params, data, how=sgd_training):
    """(delta, loss)."""
    way = how(task, rate)
    run = jax.jit(lambda params, data: way.run(params, {}, way.init(params), jax.random.key(0), data))
    delta, _, _, loss = run(params, data)
    return delta, loss


def at(tree, index):
    return jax.tree.map(lambda x: x[index], tree)


def by_program(task, rate):
    return local_training(task, optax.sgd(rate))


def assert_close(ours, oracle, tolerance=1e-5, rounding=0.0):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(oracle), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max() + rounding)


def last_place(params, steps):
    """A delta is a difference of parameters: each step may round them the other way."""
    return steps * max(float(np.spacing(np.abs(leaf).max())) for leaf in jax.tree.leaves(params))


def by_hand(task, rate, params, data):
    """(delta, loss) in float64, written out: an oracle that needs no compilation."""
    known = task.loss
    local = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    losses = []
    for image, label in zip(np.asarray(data["image"]), np.asarray(data["label"]), strict=True):
        inputs = [(image * known.scale.astype(np.float64) - known.shift).reshape(len(image), -1)]
        for name in known.layers:
            z = inputs[-1] @ local[name]["kernel"] + local[name]["bias"]
            inputs.append(np.maximum(z, 0.0))
        shifted = z - z.max(1, keepdims=True)
        log_softmax = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        losses.append(-log_softmax[np.arange(len(label)), label].mean())
        gradient = (np.exp(log_softmax) - np.eye(z.shape[1])[label]) / len(label)
        for name, entering in zip(reversed(known.layers), reversed(inputs[:-1]), strict=True):
            layer, below = local[name], gradient @ local[name]["kernel"].T * (entering > 0)
            local[name] = {
                "kernel": layer["kernel"] - rate * entering.T @ gradient,
                "bias": layer["bias"] - rate * gradient.sum(0),
            }
            gradient = below
    return jax.tree.map(lambda end, start: end - start, local, params), np.mean(losses)


def some_params(task, seed=0):
    shapes, _ = jax.eval_shape(task.init, jax.random.key(0))
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.3, x.shape), jnp.float32), shapes)


@given(
    widths=st.lists(st.integers(1, 40), max_size=3),
    side=st.integers(1, 6),
    channels=st.integers(1, 3),
    num_classes=st.integers(2, 37),
    steps=st.integers(1, 4),
    batch=st.integers(1, 27),
    seed=st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_it_agrees_on_any_sizes(widths, side, channels, num_classes, steps, batch, seed):
    task = a_task(widths, side, channels, num_classes)
    data, params = batches(seed, (steps, batch), side, channels, num_classes), some_params(task, seed)
    found, oracle = trained(task, 0.1, params, data), by_hand(task, 0.1, params, data)
    assert_close(found, oracle, rounding=last_place(params, steps))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_it_agrees_with_the_program_on_whole_tiles_and_on_images_that_are_inputs_already(dtype):
    task = a_task((64, 48), 8, 1, 10)
    data, params = batches(1, (2, 48), 8, 1, 10, dtype), some_params(task)
    found, oracle = trained(task, 0.2, params, data), trained(task, 0.2, params, data, by_program)
    assert_close(found, oracle, rounding=last_place(params, 2))


def test_a_thousand_classes():
    """The losses of a batch are summed by the logarithm of a product, which must not overflow."""
    task = a_task((3,), 2, 1, 1000)
    data, params = batches(1, (2, 200), 2, 1, 1000), some_params(task)
    np.testing.assert_allclose(
        trained(task, 0.1, params, data)[1], by_hand(task, 0.1, params, data)[1], rtol=1e-6
    )


def test_problems_clients_and_rates_are_batches():
    """Arms share their data, clients their model, and each problem has a rate: as if each were alone."""
    task = a_task()
    params = jax.tree.map(
        lambda *x: jnp.stack(x).reshape(2, 3, *x[0].shape), *(some_params(task, s) for s in range(6))
    )
    data, rates = batches(3, (2, 4, 3, 9)), jnp.array([0.1, 0.3])

    def one(rate, params, data):
        return sgd_training(task, rate).run(params, {}, (), jax.random.key(0), data)[0]

    over_clients = jax.vmap(one, (None, None, 0))
    over_arms = jax.vmap(over_clients, (None, 0, None))
    whole = jax.jit(jax.vmap(over_arms))(rates, params, data)
    for problem in range(2):
        for arm in range(3):
            for client in range(4):
                server, theirs = at(params, (problem, arm)), at(data, (problem, client))
                alone = one(rates[problem], server, theirs)
                assert_close(at(whole, (problem, arm, client)), alone, 1e-6)


def gradients(task, how, params, data, rate=0.1):
    """Of something that reads delta and loss, with respect to params and rate."""

    def of(params, rate):
        way = how(task, rate)
        delta, _, _, loss = way.run(params, {}, way.init(params), jax.random.key(0), data)
        return loss + sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(delta))

    return jax.jit(jax.grad(of, (0, 1)))(params, rate)


@given(
    widths=st.lists(st.integers(1, 40), max_size=2),
    side=st.integers(1, 6),
    num_classes=st.integers(2, 37),
    steps=st.integers(1, 4),
    batch=st.integers(1, 27),
    seed=st.integers(0, 99),
)
@settings(max_examples=6, deadline=None)
def test_a_derivative_is_that_of_the_program(widths, side, num_classes, steps, batch, seed):
    task = a_task(widths, side, 2, num_classes)
    data, params = batches(seed, (steps, batch), side, 2, num_classes), some_params(task, seed)
    ours, oracle = (gradients(task, how, params, data) for how in (sgd_training, by_program))
    assert_close(ours, oracle, 2e-5)


def test_a_derivative_of_a_batch_of_clients_and_problems():
    """Clients share the model, whose gradient is the sum of theirs; each problem has a rate."""
    task, data = a_task(), batches(4, (2, 3, 2, 9))
    params = jax.tree.map(lambda *x: jnp.stack(x), *(some_params(task, s) for s in range(2)))
    rates = jnp.array([0.1, 0.3])

    def size(params, rates):
        def one(rate, params, data):
            delta, _, _, loss = sgd_training(task, rate).run(params, {}, (), jax.random.key(0), data)
            return loss + sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(delta))

        return jnp.sum(jax.vmap(jax.vmap(one, (None, None, 0)))(rates, params, data))

    of_params, of_rates = jax.jit(jax.grad(size, (0, 1)))(params, rates)
    for problem in range(2):
        start = at(params, problem)
        alone = []
        for client in range(3):
            theirs = at(data, (problem, client))
            alone.append(gradients(task, by_program, start, theirs, rates[problem]))
        total = jax.tree.map(lambda *x: sum(x), *alone)
        assert_close((at(of_params, problem), of_rates[problem]), total, 2e-5)


def test_the_reverse_pass_is_a_kernel_for_images_as_they_are_stored():
    task = a_task()
    for dtype, expected in ((np.uint8, True), (np.float32, False)):
        data = batches(4, (2, 6), dtype=dtype)
        program = jax.jit(lambda p, d: gradients(task, sgd_training, p, d)).lower(some_params(task), data)
        assert (kernels.MLP_BACK_TARGET in program.as_text()) == expected


def uses_kernel(task, data):
    params = some_params(task)
    run = jax.jit(lambda p, d: sgd_training(task, 0.1).run(p, {}, (), jax.random.key(0), d)[0])
    return kernels.MLP_TARGET in run.lower(params, data).as_text()


def test_it_is_the_kernel_that_runs_for_this_loss_only():
    """A task with another loss, or with images of another type, is trained by XLA's program."""
    task, data = a_task(), batches(5, (2, 6))
    assert uses_kernel(task, data)
    drawn = draw_augmentation(jax.random.key(0), some_params(task), (5, 5, 2), 4, (0.5, 2.0), ("labels",))
    assert not uses_kernel(augment_task(task, drawn), data)
    assert not uses_kernel(task, batches(5, (2, 6), dtype=np.float16))


def test_what_is_not_finite_stays_so():
    task = a_task()
    params = some_params(task)
    params["Dense_0"]["kernel"] = params["Dense_0"]["kernel"].at[3, 4].set(jnp.nan)
    for how in (sgd_training, by_program):
        delta, loss = trained(task, 0.1, params, batches(6, (2, 6)), how)
        assert jnp.isnan(loss)
        assert jnp.isnan(delta["Dense_2"]["bias"]).all()


def test_a_client_that_diverged_leaves_the_next_one_alone():
    """They are trained one after another in the same memory, padded to whole vectors."""
    task, data = a_task(), batches(7, (2, 2, 6))
    params = some_params(task)
    broken = jax.tree.map(lambda x: jnp.stack([jnp.full_like(x, jnp.nan), x]), params)

    def one(params, data):
        return sgd_training(task, 0.1).run(params, {}, (), jax.random.key(0), data)[0]

    both = jax.jit(jax.vmap(one))(broken, data)
    alone = one(params, jax.tree.map(lambda x: x[1], data))
    assert all(jnp.isnan(x[0]).all() for x in jax.tree.leaves(both))
    assert_close(jax.tree.map(lambda x: x[1], both), alone, 1e-6)
