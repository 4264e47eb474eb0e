"""The classical base under the published learned aggregators."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import cohort, random_tree, small_tree

from learned_aggregation import build, get_aggregator
from learned_aggregation.config.resolve import Config
from learned_aggregation.errors import UserError

LEARNED = ("fedlagg-adafac", "fedlopt-adafac", "fedlagg", "fedlopt", "fedlagg-wavg")
RATES = {"base_learning_rate": 0.5, "base_momentum": 0.6}
CLASSICAL = {
    "mean": ("fedavgm", {"learning_rate": 0.5, "beta": 0.0}),
    "momentum": ("fedavgm", {"learning_rate": 0.5, "beta": 0.6}),
    "nesterov": ("diloco", {"learning_rate": 0.5, "beta": 0.6}),
}
WEIGHTS = jnp.array([1.0, 5.0, 2.0])


def two_steps(aggregator, theta, unit=1.0):
    params = small_tree()
    state, steps = aggregator.init(theta, params), []
    update = jax.jit(aggregator.update)
    for t in range(2):
        delta = random_tree(jax.random.key(t), params, (3,), scale=unit)
        step, state = update(theta, cohort(delta, WEIGHTS), state, params)
        steps.append(step)
    return steps


def silent(theta):
    """A theta whose network answers 0."""
    return theta | {"nn": theta["nn"] | {"w2": jnp.zeros_like(theta["nn"]["w2"])}}


@pytest.mark.parametrize(
    ("name", "base"),
    [*((name, "momentum") for name in LEARNED), ("fedlagg-adafac", "mean"), ("fedlopt", "nesterov")],
)
def test_a_network_that_answers_0_leaves_the_base(name, base):
    aggregator = get_aggregator(name, num_grads=3, hidden_size=4, base=base, **RATES)
    rule, options = CLASSICAL[base]
    theta = aggregator.init_theta(jax.random.key(0))
    for ours, classical in zip(
        two_steps(aggregator, silent(theta)), two_steps(get_aggregator(rule, **options), ()), strict=True
    ):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), ours, classical)


def test_the_correction_is_the_networks_answer_times_the_size_of_the_base():
    """With constant outputs (direction, magnitude) = (2, 3): b - rms(b) * 2 * exp(0.1 * 3)."""
    aggregator = get_aggregator("fedlagg-adafac", num_grads=3, hidden_size=4, base="momentum", **RATES)
    theta = silent(aggregator.init_theta(jax.random.key(0)))
    theta["nn"]["b2"] = jnp.array([2.0, 3.0])
    for ours, b in zip(
        two_steps(aggregator, theta),
        two_steps(get_aggregator("fedavgm", learning_rate=0.5, beta=0.6), ()),
        strict=True,
    ):
        for leaf, under in zip(jax.tree.leaves(ours), jax.tree.leaves(b), strict=True):
            expected = under - np.sqrt(np.mean(under**2)) * 2.0 * np.exp(0.3)
            np.testing.assert_allclose(leaf, expected, rtol=1e-5, atol=1e-6)


def test_deltas_of_zero_give_a_step_of_zero_and_finite_derivatives():
    aggregator = get_aggregator("fedlopt-adafac", hidden_size=4, base="nesterov")

    def total(theta):
        return sum(jnp.sum(x) for x in jax.tree.leaves(two_steps(aggregator, theta, unit=0.0)))

    value, gradient = jax.value_and_grad(total)(aggregator.init_theta(jax.random.key(0)))
    assert value == 0.0
    assert all(jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(gradient))


def test_an_unknown_base_is_refused():
    with pytest.raises(UserError, match=r"expected base to be one of none, .*, got 'momentun'.*momentum"):
        get_aggregator("fedlagg", base="momentun")


@pytest.mark.parametrize(
    ("optimizer", "given", "expected"),
    [
        ("fedlagg-adafac", {}, {"base": "none", "base_learning_rate": 1.0, "base_momentum": 0.5}),
        ("fedlagg-set", {}, {"base": "momentum", "base_learning_rate": 1.0, "base_momentum": 0.6}),
        ("fedlagg-set", RATES, {"base": "momentum", **RATES}),
        ("fedavg", {"base": "mean"}, {}),
    ],
)
def test_a_config_without_a_base_takes_the_rules_own(optimizer, given, expected):
    settings = build.theta_settings(Config(optimizer=optimizer, **given))
    assert {name: value for name, value in settings.items() if name.startswith("base")} == expected


def test_a_theta_of_another_base_is_refused(tmp_path):
    from learned_aggregation.pretrained.theta_file import check_theta

    aggregator = get_aggregator("fedlopt", hidden_size=4)
    theta = aggregator.init_theta(jax.random.key(0))
    with pytest.raises(
        UserError, match=r"meta-trained for base=momentum, the config asks for none. Use base=m"
    ):
        check_theta(theta, theta, "fedlopt", {"base": "none"}, {"base": "momentum"})
