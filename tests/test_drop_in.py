"""Aggregators in other people's loops: the drop-in and its optax form against the core, on every registered rule."""

import re
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import CLASSICAL, cohort, random_tree, small_tree

from learned_aggregation import DropIn, get_aggregator
from learned_aggregation.aggregators import AGGREGATORS
from learned_aggregation.errors import UserError
from learned_aggregation.integrations.optax import to_optax
from learned_aggregation.pretrained.drop_in import OutsideTrainedRange

GUIDE = (Path(__file__).parent.parent / "docs/integrations.md").read_text()
CLIENTS = 4
OPTIONS = {"num_grads": CLIENTS, "hidden_size": 4}
FIXED_K = ("fedlagg", "fedlagg-adafac", "fedlagg-wavg")


def options_of(name: str) -> dict:
    return OPTIONS | CLASSICAL.get(name, {})


def fresh(rule: str, **kwargs) -> DropIn:
    """The rule with a fresh theta."""
    theta = get_aggregator(rule, **options_of(rule)).init_theta(jax.random.key(1))
    return DropIn(rule, theta, options=options_of(rule), **kwargs)


def deltas_of(params, seed: int = 0, clients: int = CLIENTS):
    return random_tree(jax.random.key(seed), params, (clients,), 0.1)


def assert_equal_to_1e6(actual, expected):
    jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, rtol=0, atol=1e-6), actual, expected)


@pytest.mark.parametrize("name", AGGREGATORS)
def test_the_drop_in_and_its_optax_form_equal_the_core(name):
    """Three rounds with unequal weights; the drop-in inside a jit of the user's, everything donated."""
    agg = fresh(name)
    weights = jnp.array([1.0, 2.0, 3.0, 0.5])
    core, state = small_tree(), agg.rule.init(agg.theta, small_tree())
    mine = jax.tree.map(jnp.copy, core)
    mine_state = agg.init(mine)
    opt, theirs = to_optax(agg), core
    opt_state = opt.init(theirs)
    core_update = jax.jit(agg.rule.update)
    update = jax.jit(agg.update, donate_argnums=(0, 3))
    for seed in range(3):
        deltas = deltas_of(core, seed)
        step, state = core_update(agg.theta, cohort(deltas, weights), state, core)
        core = jax.tree.map(jnp.add, core, step)
        mine, mine_state = update(mine, deltas, weights, mine_state)
        updates, opt_state = opt.update(
            jax.tree.map(jnp.zeros_like, theirs), opt_state, theirs, deltas=deltas, weights=weights
        )
        theirs = optax.apply_updates(theirs, updates)
        assert_equal_to_1e6(mine, core)
        assert_equal_to_1e6(theirs, core)
    assert update._cache_size() == 1


@pytest.mark.parametrize("name", [name for name in AGGREGATORS if name not in FIXED_K])
def test_a_pseudo_gradient_is_one_delta(name):
    agg = fresh(name)
    params, opt = small_tree(), to_optax(agg)
    g = random_tree(jax.random.key(3), params)
    updates, _ = opt.update(g, opt.init(params), params)
    step, _ = agg.step(params, jax.tree.map(lambda leaf: -leaf[None], g), None, agg.init(params))
    assert_equal_to_1e6(updates, step)


@pytest.mark.parametrize("name", FIXED_K)
def test_raw_deltas_cannot_come_as_a_mean(name):
    opt, params = to_optax(fresh(name)), small_tree()
    with pytest.raises(UserError, match=f"{name}: expected the deltas of 4 clients, .* got their mean alone"):
        opt.update(params, opt.init(params), params)


def test_the_clients_are_fixed_for_the_rules_that_read_every_delta():
    found = {name: fresh(name).clients for name in AGGREGATORS}
    assert found == {name: CLIENTS if name in FIXED_K else None for name in AGGREGATORS}


def test_a_plain_optax_loop_and_a_chain_train():
    """optax's own loop on a quadratic, one local step of rate 0.1 a round, clipped in front."""
    agg = DropIn("fedavgm", options={"beta": 0.5, "learning_rate": 1.0})
    opt = optax.chain(optax.clip_by_global_norm(1.0), optax.scale(0.1), to_optax(agg))
    params = {"w": jnp.array([3.0, -2.0]), "b": jnp.array(1.0)}
    loss = lambda p: jnp.sum(p["w"] ** 2) + p["b"] ** 2  # noqa: E731

    @jax.jit
    def step(params, state):
        updates, state = opt.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    state = opt.init(params)
    for _ in range(100):
        params, state = step(params, state)
    assert loss(params) < 1e-3
    with pytest.raises(UserError, match="fedavgm: expected the params beside the pseudo-gradient, got None"):
        opt.update(params, state)


def test_the_guides_program_runs():
    [program] = [
        block for block in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL) if "to_optax" in block
    ]
    given = {
        "agg": DropIn("fedavg"),
        "params": small_tree(),
        "pseudo_gradient": small_tree(),
        "weights": None,
    }
    exec(
        compile(program, "integrations.md", "exec"),
        given | {"optax": optax, "deltas": deltas_of(small_tree())},
    )


def test_a_chain_hands_the_deltas_on():
    agg = fresh("fedlagg")
    params, deltas = small_tree(), deltas_of(small_tree())
    opt = optax.chain(optax.identity(), to_optax(agg), optax.scale(0.5))
    updates, _ = opt.update(params, opt.init(params), params, deltas=deltas)
    step, _ = agg.step(params, deltas, None, agg.init(params))
    assert_equal_to_1e6(updates, jax.tree.map(lambda leaf: 0.5 * leaf, step))


def test_every_floating_dtype_is_computed_in_float32_and_cast_back():
    agg = fresh("fedlagg")
    exact = small_tree() | {"s": jnp.array(0.25)}
    params = {name: leaf.astype(jnp.bfloat16) for name, leaf in exact.items()}
    params |= {"w": params["w"].astype(jnp.float16), "s": params["s"].astype(jnp.float32)}
    deltas = jax.tree.map(lambda d, p: d.astype(p.dtype), deltas_of(exact), params)
    as_float32 = lambda tree: jax.tree.map(lambda leaf: leaf.astype(jnp.float32), tree)  # noqa: E731
    after, state = agg.update(params, deltas, None, agg.init(params))
    expected, _ = agg.update(as_float32(params), as_float32(deltas), None, agg.init(as_float32(params)))
    for name, leaf in after.items():
        assert leaf.dtype == params[name].dtype
        np.testing.assert_array_equal(leaf, expected[name].astype(leaf.dtype))
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} <= {np.dtype("float32"), np.dtype("int32")}


@pytest.mark.parametrize("name", ["fedavgm", "fedlagg"])
def test_it_is_a_scans_carry_also_where_jax_computes_in_float64(name):
    with jax.enable_x64(True):
        agg = fresh(name)
        params = {"w": jnp.ones((2, 3), jnp.float64), "b": jnp.ones(3, jnp.float32)}
        deltas = jax.tree.map(lambda leaf: jnp.full((CLIENTS, *leaf.shape), 0.1, leaf.dtype), params)
        body = lambda carry, _: (agg.update(carry[0], deltas, None, carry[1]), None)  # noqa: E731
        (after, _), _ = jax.lax.scan(body, (params, agg.init(params)), length=2)
    assert (after["w"].dtype, after["b"].dtype) == (np.dtype("float64"), np.dtype("float32"))
    assert np.all(np.isfinite(after["w"]))


def test_no_weights_are_equal_weights_and_hosts_arrays_will_do():
    agg = DropIn("fedavg")
    params = {"w": np.ones(3, np.float32), "b": 0.5}
    deltas = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([1.0, 3.0])}
    after, _ = agg.update(params, deltas, None, agg.init(params))
    assert_equal_to_1e6(after, {"w": np.array([2.5, 3.5, 4.5]), "b": np.float32(2.5)})
    weighted, _ = agg.update(params, deltas, [1, 3], agg.init(params))
    np.testing.assert_allclose(weighted["b"], 3.0)


@pytest.mark.parametrize("name", ["fedavg", "fedlagg-adafac"])
def test_a_client_of_weight_0_leaves_no_trace(name):
    """Even of a NaN; a rule for fixed K sees a client that did not move."""
    agg = fresh(name)
    params, deltas = small_tree(), deltas_of(small_tree())
    weights = np.array([1.0, 0.0, 1.0, 1.0])
    outcomes = []
    for left in (jnp.nan, 0.0):
        dropped = jax.tree.map(lambda leaf: leaf.at[1].set(left), deltas)  # noqa: B023
        outcomes.append(agg.update(params, dropped, weights, agg.init(params)))
    jax.tree.map(np.testing.assert_array_equal, *outcomes)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(outcomes))


GOOD = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
STACKED = {"w": jnp.ones((4, 2, 3)), "b": jnp.ones((4, 3))}
BAD = {
    "an integer leaf": (GOOD | {"n": jnp.arange(2)}, STACKED, None, "floating-point params, got int32 in n"),
    "no leaf": ({}, {}, None, "params with arrays in them"),
    "a missing delta": (GOOD, {"w": STACKED["w"]}, None, "deltas with the same tree, got no leaf b"),
    "an extra delta": (GOOD, STACKED | {"c": jnp.ones((4, 1))}, None, "same tree, got an extra leaf c"),
    "another container": (tuple(GOOD.values()), list(STACKED.values()), None, "got another container"),
    "one client's delta": (GOOD, GOOD, None, r"deltas of shape \('K', 3\) in b, .* got \(3,\)"),
    "another K in one leaf": (
        GOOD,
        STACKED | {"w": STACKED["w"][:3]},
        None,
        r"deltas of shape \('K', 2, 3\) in w, .* got \(3, 2, 3\)",
    ),
    "integer deltas": (GOOD, STACKED | {"b": jnp.ones((4, 3), int)}, None, "deltas, got int32 in b"),
    "another K": (
        GOOD,
        {name: leaf[:3] for name, leaf in STACKED.items()},
        None,
        "the deltas of 4 clients, which it was made for, got 3",
    ),
    "weights for others": (GOOD, STACKED, jnp.ones(3), r"weights of shape \(4,\), got \(3,\)"),
    "a negative weight": (
        GOOD,
        STACKED,
        [1, 1, 1, -1],
        r"at least 0 and one above 0, got \[1.0, 1.0, 1.0, -1.0\]",
    ),
    "weights of 0": (GOOD, STACKED, np.zeros(4), "at least 0 and one above 0"),
    "a NaN weight": (GOOD, STACKED, np.array([1, 1, 1, np.nan]), "at least 0 and one above 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_refused_in_one_line(case):
    params, deltas, weights, message = BAD[case]
    agg = fresh("fedlagg")
    with pytest.raises(UserError, match=f"^fedlagg: expected .*{message}") as error:
        agg.update(params, deltas, weights, agg.init(params))
    assert "\n" not in str(error.value)


def test_a_state_of_another_model_is_refused():
    agg = fresh("fedlopt-adafac")
    other = agg.init(GOOD | {"b": jnp.ones(4)})
    with pytest.raises(
        UserError, match=r"expected a state of these params, \(3, 3\) in accumulators/0/momentum"
    ):
        agg.update(GOOD, STACKED, None, other)
    with pytest.raises(UserError, match="a state of these params with the same tree"):
        agg.update(GOOD, STACKED, None, ())


def test_a_theta_of_another_width_is_refused():
    theta = get_aggregator("fedlagg", num_grads=4, hidden_size=8).init_theta(jax.random.key(0))
    with pytest.raises(UserError, match=r"fedlagg: expected theta leaf nn/b0 \(4,\), got \(8,\)"):
        DropIn("fedlagg", theta, options=OPTIONS)


def test_numbers_outside_the_trained_range_warn_once():
    ranges = {"num_grads": (2, 3), "num_local_steps": (2, 16), "local_learning_rate": (0.5, 0.5)}
    agg = fresh("fedlopt", name="mine", trained=ranges)
    with pytest.warns(OutsideTrainedRange, match="mine: meta-trained with num_grads 2 to 3, used with 4"):
        agg.update(GOOD, STACKED, None, agg.init(GOOD))
    with pytest.warns(OutsideTrainedRange, match="num_local_steps 2 to 16, used with 32"):
        agg.check_problem(num_local_steps=32)
    with pytest.warns(OutsideTrainedRange, match="local_learning_rate 0.5, used with 0.1"):
        agg.check_problem(local_learning_rate=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agg.update(GOOD, STACKED, None, agg.init(GOOD))
        agg.check_problem(num_local_steps=32, local_learning_rate=0.1)
        fresh("fedlopt", trained=ranges).check_problem(num_local_steps=16, local_learning_rate=0.5)
