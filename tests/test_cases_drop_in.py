"""The drop-in under a user's own options, dtypes, weights, names and sizes of deltas."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_close, random_tree

from learned_aggregation import DropIn, load_aggregator, pretrained_names
from learned_aggregation.integrations.optax import to_optax

PARAMS = {"b": jnp.asarray([0.5, -0.5]), "w": jnp.ones((2, 3))}
DELTAS = random_tree(jax.random.key(0), PARAMS, (8,), 0.1)


@pytest.fixture(scope="module")
def learned():
    found = {name: load_aggregator(name) for name in ("lagg-set", "lagg-a-k8-h4", "lopt-a-h4")}
    return found | {"fedavg": DropIn("fedavg")}


NAMES = ("lagg-set", "lagg-a-k8-h4", "lopt-a-h4", "fedavg")


def _fresh(agg):
    """Without what it has compiled under other options."""
    return DropIn(
        next(k for k, v in RULES.items() if v == agg.name), agg.theta, options=OPTIONS.get(agg.name)
    )


RULES = {
    "fedlagg-set": "lagg-set",
    "fedlagg-adafac": "lagg-a-k8-h4",
    "fedlopt-adafac": "lopt-a-h4",
    "fedavg": "fedavg",
}
OPTIONS = {"lagg-set": {"base": "mean"}}


def _updated(agg, params=PARAMS, deltas=DELTAS, weights=None):
    return agg.update(params, deltas, weights, agg.init(params))[0]


@pytest.mark.filterwarnings("ignore:.*meta-trained with")
@pytest.mark.parametrize("name", NAMES)
def test_the_users_options_change_no_number(name, learned):
    """jax_numpy_rank_promotion="raise" and strict dtype promotion are for the user's own code."""
    expected = _updated(_fresh(learned[name]))
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        found = _updated(_fresh(learned[name]))
        weighted = _updated(_fresh(learned[name]), weights=np.arange(8))
    assert_close(found, expected, rtol=0, atol=0)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(weighted))


@pytest.mark.parametrize("strict", ["strict", "standard"])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float8_e4m3fn])
def test_narrow_params_are_added_to_in_float32_and_cast_back(dtype, strict):
    agg, params = DropIn("fedavg"), {"b": jnp.zeros(2, dtype)}
    with jax.numpy_dtype_promotion(strict):
        new, _ = agg.update(params, {"b": jnp.ones((3, 2), dtype)}, None, agg.init(params))
    assert new["b"].dtype == dtype
    np.testing.assert_array_equal(np.asarray(new["b"], np.float32), [1, 1])


SCALES = (1e39, 1e300, 3e38, 1e-40, 1e-50, 1e-300)


@pytest.mark.filterwarnings("ignore:.*meta-trained with")
@pytest.mark.parametrize("name", ["lagg-set", "fedavg"])
def test_weights_have_no_unit(name, learned):
    shares = np.asarray([1.0, 2, 3, 4, 5, 6, 7, 0])
    expected = _updated(learned[name], weights=shares)
    for scale in SCALES:
        assert_close(_updated(learned[name], weights=shares * scale), expected, rtol=1e-6)
    # ordinary ones are taken as they are, bit for bit, in whatever form they come
    for same in (
        shares.astype(np.float32),
        shares.tolist(),
        jnp.asarray(shares, jnp.float32),
        shares * 2.0**20,
    ):
        assert_close(_updated(learned[name], weights=same), expected, rtol=0, atol=0)


@pytest.mark.parametrize("scale", [1.0, 3e38, 1e-36])
def test_traced_weights_have_no_unit(scale):
    agg, weights = DropIn("fedavg"), jnp.asarray([1.0, 0.5, 0.25]) * scale
    deltas = {"b": jnp.asarray([[1.0], [2.0], [3.0]])}
    params = {"b": jnp.zeros(1)}
    new = jax.jit(lambda w: agg.update(params, deltas, w, agg.init(params))[0])(weights)
    np.testing.assert_allclose(new["b"], [(1 + 1 + 0.75) / 1.75], rtol=1e-6)


def test_names_serve_the_messages_alone():
    params = {
        "enc/w": jnp.zeros(2),
        "enc": {"w": jnp.zeros(3)},
        "a": {"b": jnp.zeros(1)},
        "a/b": jnp.zeros(4),
    }
    deltas = jax.tree.map(lambda leaf: jnp.ones((4, *leaf.shape)), params)
    agg = DropIn("fedavgm", options={"beta": 0.5, "learning_rate": 1.0})
    new, state = agg.update(params, deltas, None, agg.init(params))
    new, _ = agg.update(new, deltas, None, state)
    assert_close(new, jax.tree.map(lambda leaf: jnp.full(leaf.shape, 2.5), params))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_optax_wrappers_take_the_updates(dtype):
    params, gradient = {"b": jnp.zeros(2, dtype)}, {"b": jnp.ones(2, dtype)}
    opt = optax.apply_if_finite(to_optax(DropIn("fedavg")), 3)
    updates, _ = opt.update(gradient, opt.init(params), params)
    assert updates["b"].dtype == dtype
    assert updates["b"].tolist() == [-1, -1]


@pytest.mark.filterwarnings("ignore:.*meta-trained with")
@pytest.mark.parametrize("scale", [1e10, 1e15, 1e20, 3e37, 1e-10, 1e-20, 1e-38, 0.0])
def test_deltas_of_any_finite_size_give_a_finite_model(scale, learned):
    """The trust bound: at most 6 times the root mean square of the clients' deltas, in each tensor."""
    agg, params = learned["lagg-set"], PARAMS
    deltas = random_tree(jax.random.key(1), PARAMS, (8,), scale)
    state = agg.init(params)
    for _ in range(3):
        step, state = agg.step(params, deltas, None, state)
        for leaf, delta in zip(jax.tree.leaves(step), jax.tree.leaves(deltas), strict=True):
            assert np.isfinite(leaf).all()
            size = np.sqrt(np.mean(np.square(np.asarray(delta, np.float64))))
            assert np.sqrt(np.mean(np.square(np.asarray(leaf, np.float64)))) <= 6.001 * size + 1e-9
        params = jax.tree.map(jnp.add, params, step)
    assert all(np.isfinite(np.asarray(leaf, np.float32)).all() for leaf in jax.tree.leaves(state))


def test_pretrained_names_is_exported():
    assert "lagg-set" in pretrained_names()
