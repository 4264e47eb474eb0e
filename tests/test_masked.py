"""`masked`: what an aggregator never sees stays bit for bit, under every rule of the registry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import CLASSICAL, assert_close, cohort, random_tree, small_tree

from learned_aggregation import get_aggregator, masked
from learned_aggregation.aggregators import AGGREGATORS
from learned_aggregation.errors import UserError

CLIENTS = 4
ODD = jnp.array([0.0, -0.0, jnp.inf, -jnp.inf, jnp.nan, 1.2e-38, 3.4e38, 1.0])
"""Numbers that arithmetic rarely leaves as they are; XLA makes zeros of those below 1.2e-38 wherever it computes."""


def make(name):
    return get_aggregator(name, num_grads=CLIENTS, **CLASSICAL.get(name, {}))


def bits(x):
    return np.asarray(x).view(np.uint32)


@pytest.mark.parametrize("name", AGGREGATORS)
def test_masked_parameters_are_bit_equal_and_the_others_as_without_them(name):
    rule = make(name)
    hidden = masked(rule, {"seen": False, "hidden": {"a": True, "b": True}})
    params = {"seen": small_tree(), "hidden": {"a": ODD, "b": jnp.ones((3, 2))}}
    visible = {"seen": small_tree(), "hidden": {"a": None, "b": None}}
    theta = rule.init_theta(jax.random.key(0))
    state, alone = hidden.init(theta, params), rule.init(theta, visible)
    assert jax.tree.structure(state) == jax.tree.structure(alone)  # nothing is kept for what is masked
    update, update_alone = jax.jit(hidden.update), jax.jit(rule.update)
    moved = params
    for t in range(2):
        delta = random_tree(jax.random.key(t), params, (CLIENTS,), 0.1)
        step, state = update(theta, cohort(delta), state, moved)
        moved = jax.jit(lambda p, s: jax.tree.map(jnp.add, p, s))(moved, step)
        seen = {"seen": delta["seen"], "hidden": {"a": None, "b": None}}
        step, alone = update_alone(theta, cohort(seen), alone, visible)
        visible = jax.tree.map(jnp.add, visible, step)
    for leaf in ("a", "b"):
        np.testing.assert_array_equal(bits(moved["hidden"][leaf]), bits(params["hidden"][leaf]))
    assert_close(moved["seen"], visible["seen"])
    assert all(
        np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (moved["seen"], small_tree())), strict=True)
    )


def test_without_the_mask_a_learned_rule_moves_a_parameter_whose_deltas_are_zero():
    """Else the test above would show nothing."""
    rule = make("fedlagg")
    params = {"w": jnp.ones((3, 2))}
    delta = {"w": jnp.zeros((CLIENTS, 3, 2))}
    theta = rule.init_theta(jax.random.key(0))
    step, _ = rule.update(theta, cohort(delta), rule.init(theta, params), params)
    assert np.all(np.asarray(step["w"]) != 0)


def test_masking_costs_nothing():
    """The program of the rest: no operation has the shape of what is masked but the constant step."""
    rule = masked(make("fedlagg-adafac"), {"w": False, "big": True})
    params = {"w": jnp.ones(3), "big": jnp.ones((123, 45))}
    theta = rule.init_theta(jax.random.key(0))
    delta = {"w": jnp.ones((CLIENTS, 3)), "big": jnp.ones((CLIENTS, 123, 45))}
    program = jax.make_jaxpr(rule.update)(theta, cohort(delta), rule.init(theta, params), params)
    made = [eqn for eqn in program.eqns if any(v.aval.shape == (123, 45) for v in eqn.outvars)]
    assert [eqn.primitive.name for eqn in made] == ["broadcast_in_dim"]


@pytest.mark.parametrize("mask", [{"w": True}, {"w": True, "b": 1}, {"w": {"x": True}, "b": False}, "w"])
def test_a_mask_that_does_not_fit_is_one_clear_line(mask):
    with pytest.raises(UserError, match=r"masked: expected .*Give|masked: expected .*Build") as caught:
        masked(make("fedavg"), mask).init((), small_tree())
    assert "\n" not in str(caught.value)


def test_a_prefix_masks_all_that_is_below():
    rule = masked(make("fedavg"), True)
    assert rule.init((), small_tree()) == make("fedavg").init((), {})
    step, _ = rule.update((), cohort(random_tree(jax.random.key(0), small_tree(), (2,))), (), small_tree())
    assert all(np.all(bits(leaf) == bits(jnp.float32(-0.0))) for leaf in jax.tree.leaves(step))
