"""Models in other forms than flax.linen's: the same functions, the same gradients, statistics and random layers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from learned_aggregation.errors import UserError
from learned_aggregation.registry import brought
from learned_aggregation.tasks import make_task
from learned_aggregation.tasks.adapters import as_model, flags
from learned_aggregation.tasks.construct import construct

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (5, 4))


class Linen(nn.Module):
    outputs: int

    @nn.compact
    def __call__(self, x, deterministic):
        x = nn.BatchNorm(use_running_average=deterministic)(nn.Dense(3)(x))
        return nn.Dense(self.outputs)(nn.Dropout(0.5, deterministic=deterministic)(x))


class Nnx(nnx.Module):
    def __init__(self, outputs, *, rngs):
        self.low = nnx.Linear(4, 3, rngs=rngs)
        self.norm = nnx.BatchNorm(3, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.high = nnx.Linear(3, outputs, rngs=rngs)

    def __call__(self, x):
        return self.high(self.drop(self.norm(self.low(x))))


def equinox_net():
    equinox = pytest.importorskip("equinox")

    class Net(equinox.Module):
        low: equinox.nn.Linear
        drop: equinox.nn.Dropout
        high: equinox.nn.Linear

        def __init__(self, outputs, *, key):
            low, high = jax.random.split(key)
            self.low, self.drop = equinox.nn.Linear(4, 3, key=low), equinox.nn.Dropout(0.5)
            self.high = equinox.nn.Linear(3, outputs, key=high)

        def __call__(self, x, *, key):
            return self.high(self.drop(jnp.tanh(self.low(x)), key=key))

    return Net


def made(form):
    return construct({"linen": Linen, "nnx": Nnx}.get(form) or equinox_net(), "", 2)


FORMS = ("linen", "nnx", pytest.param("equinox", marks=pytest.mark.extras))


@pytest.mark.parametrize("form", FORMS)
def test_a_model_is_two_pure_functions(form):
    model = as_model(made(form))
    params, state = jax.jit(model.init)(KEY, X[:1])
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((params, state)))
    again, other = model.init(KEY, X[:1])[0], model.init(jax.random.key(7), X[:1])[0]
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), params, again)
    assert any(np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (params, other)), strict=True))

    @functools.partial(jax.jit, static_argnums=1)
    def run(params, train, key):
        return model.apply(params, state, X, train, key)

    one, two = (run(params, True, jax.random.key(seed)) for seed in (1, 2))
    assert np.any(one[0] != two[0])  # dropout
    quiet, kept = run(params, False, jax.random.key(1))
    np.testing.assert_array_equal(quiet, run(params, False, jax.random.key(2))[0])
    assert (quiet.shape, one[0].shape) == ((5, 2), (5, 2))
    jax.tree.map(np.testing.assert_array_equal, kept, state)
    if form != "equinox":
        assert any(np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (state, one[1])), strict=True))
    gradient = jax.grad(lambda p: jnp.sum(run(p, False, KEY)[0] ** 2))(params)
    assert sum(float(jnp.sum(g**2)) for g in jax.tree.leaves(gradient)) > 0


def test_nnx_computes_what_linen_does():
    dense = as_model(nn.Dense(2))
    params, _ = dense.init(KEY, X[:1])
    linear = as_model(functools.partial(nnx.Linear, 4, 2))
    ours, state = linear.init(KEY, X[:1])
    assert jax.tree.structure(ours) == jax.tree.structure(params)
    np.testing.assert_allclose(
        linear.apply(params, state, X, True, KEY)[0], dense.apply(params, {}, X, True, KEY)[0]
    )


@pytest.mark.parametrize("form", ["nnx", pytest.param("equinox", marks=pytest.mark.extras)])
def test_a_model_that_is_made_begins_every_run_with_its_weights(form):
    module = Nnx(2, rngs=nnx.Rngs(3)) if form == "nnx" else equinox_net()(2, key=jax.random.key(3))
    model = as_model(module)
    first, second = (model.init(jax.random.key(seed), X[:1])[0] for seed in (0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, second)
    weight = module.low.kernel.get_value() if form == "nnx" else module.low.weight
    assert any(
        np.shape(leaf) == weight.shape and np.array_equal(leaf, weight) for leaf in jax.tree.leaves(first)
    )


@pytest.mark.parametrize(
    "form", ["nnx", "functions", "task", pytest.param("equinox", marks=pytest.mark.extras)]
)
def test_a_task_of_each_form(form):
    """Its loss falls by gradient steps; a mask of the objective and dropout draw from the step's key."""

    def init(key, example):
        return {"w": jnp.zeros((example.shape[-1], 2))}

    item = {"functions": (init, lambda params, x: x @ params["w"])}.get(form) or (
        made(form) if form != "task" else None
    )
    columns = {"features": np.array(jax.random.normal(KEY, (200, 4))), "label": np.arange(200) % 2}
    columns["features"][:, 0] += 3 * columns["label"]
    from learned_aggregation.data import DataOptions

    options = DataOptions(datasets={"mine": {"type": "arrays", "sha256": "x"}})
    with brought({("model", "own_net"): item, ("arrays", "x"): columns}):
        if form == "task":
            plain, _ = make_task("mlp4_mine_4", options)
            with brought({("model", "own_net"): plain}):
                task, data = make_task("own_net_mine_4", options)
        else:
            task, data = make_task("own_net_mine_4", options)
    assert task.name == "own_net_mine_4"
    batch = {name: jnp.asarray(leaf[:64]) for name, leaf in data.splits["train"].examples.items()}
    params, state = task.init(KEY)

    @jax.jit
    def step(params, state, key):
        (loss, (state, _)), gradient = jax.value_and_grad(task.loss, has_aux=True)(params, state, key, batch)
        return jax.tree.map(lambda p, g: p - 0.3 * g, params, gradient), state, loss

    first = float(task.evaluate(params, state, KEY, batch)["loss"].mean())
    for seed in range(30):
        params, state, _ = step(params, state, jax.random.key(seed))
    assert float(task.evaluate(params, state, KEY, batch)["loss"].mean()) < 0.7 * first


def test_what_is_no_model_is_refused():
    with pytest.raises(UserError, match=r"model: expected a flax or equinox module, .* got int"):
        as_model(3)
    with pytest.raises(UserError, match=r"got one that needs widths"):
        construct(lambda widths, outputs: None, "", 2)
    assert construct(lambda arguments, num_classes: (arguments, num_classes), "64", 3) == ("64", 3)
    assert construct((1, 2), "", 3) == (1, 2)


def test_a_model_is_told_whether_it_trains_under_its_own_name():
    assert flags(lambda x, is_training: x, False) == {"is_training": False}
    assert flags(lambda x: x, True) == {}
