"""The classical aggregators and local optimizers: identities, and oracles written independently."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import CLASSICAL as RULES
from helpers import assert_close, cohort, random_tree, regression_batches, regression_task, small_tree

from learned_aggregation import get_aggregator
from learned_aggregation.aggregators import AGGREGATORS, accepted_options
from learned_aggregation.errors import UserError
from learned_aggregation.federated.client_work import independently
from learned_aggregation.federated.clients import LOCAL_OPTIMIZERS
from learned_aggregation.federated.local_training import local_training
from learned_aggregation.federated.parts import assemble
from learned_aggregation.federated.round import federated_round, init_server

CLIENTS = 4
ROUNDS = 6
WEIGHTS = (1.0, 3.0, 0.5, 2.0)


def deltas() -> list:
    """A sequence of cohorts' deltas, of sizes that differ between rounds (yogi's sign must change)."""
    keys = jax.random.split(jax.random.key(1), ROUNDS)
    scales = (0.3, 0.02, 0.5, 0.001, 0.1, 0.05)
    return [random_tree(k, small_tree(), (CLIENTS,), s) for k, s in zip(keys, scales, strict=True)]


def mean_gradients(weight=WEIGHTS) -> list:
    """g = -mean(delta), weighted, in NumPy."""
    return [jax.tree.map(lambda d: -np.average(d, axis=0, weights=weight), delta) for delta in deltas()]


def trajectory(aggregator, weight=WEIGHTS) -> list:
    """The steps of the rule over the rounds."""
    state, steps = aggregator.init((), small_tree()), []
    for delta in deltas():
        step, state = aggregator.update((), cohort(delta, weight), state, small_tree())
        steps.append(step)
    return steps


def optax_trajectory(optimizer) -> list:
    state, steps = optimizer.init(small_tree()), []
    for g in mean_gradients():
        step, state = optimizer.update(g, state)
        steps.append(step)
    return steps


def test_the_table_has_every_classical_rule():
    without_network = {name for name in AGGREGATORS if "hidden_size" not in accepted_options(name)}
    assert without_network == set(RULES)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fedavg-slowmo", {"beta": 0.0, "slowmo_learning_rate": 0.3, "local_learning_rate": 0.3}),
        ("fedavgm", {"beta": 0.0, "learning_rate": 1.0}),
        ("fedavgm", {"beta": 0.0}),
        ("diloco", {"beta": 0.0, "learning_rate": 1.0}),
        ("sgd", {"learning_rate": 1.0}),
    ],
)
def test_without_momentum_at_rate_one_it_is_fedavg(name, options):
    fedavg = trajectory(get_aggregator("fedavg"))
    assert_close(trajectory(get_aggregator(name, **options)), fedavg)
    assert_close(fedavg[0], jax.tree.map(np.negative, mean_gradients()[0]))


@pytest.mark.parametrize(
    ("name", "options", "optimizer"),
    [
        ("fedavgm", {"beta": 0.9, "learning_rate": 0.5}, optax.sgd(0.5, momentum=0.9)),
        ("fedavgm", {"beta": 0.7}, optax.sgd(1.0, momentum=0.7)),
        ("diloco", {}, optax.sgd(0.7, momentum=0.9, nesterov=True)),
        ("diloco", {"learning_rate": 0.4, "beta": 0.6}, optax.sgd(0.4, momentum=0.6, nesterov=True)),
        (  # past the end, the rate stays
            "nesterov-decay",
            {"learning_rate": 0.5, "beta": 0.6, "final": 0.2, "rounds": 2.0},
            optax.sgd(optax.linear_schedule(0.5, 0.1, 2), momentum=0.6, nesterov=True),
        ),
        ("sgd", {"learning_rate": 0.3}, optax.sgd(0.3)),
        ("adam", {"learning_rate": 0.3}, optax.adam(0.3, b1=0.9, b2=0.999, eps=1e-8)),
        (  # slowmo's momentum is fedavgm's over gamma
            "fedavg-slowmo",
            {"slowmo_learning_rate": 0.2, "beta": 0.8, "local_learning_rate": 0.1},
            optax.sgd(2.0, momentum=0.8),
        ),
    ],
)
def test_matches_optax_on_the_pseudo_gradient(name, options, optimizer):
    assert_close(trajectory(get_aggregator(name, **options)), optax_trajectory(optimizer))


def test_fedadam_is_adam_without_bias_correction_and_tau_outside_the_root():
    """Optax's moments; its state's count is held so high that the bias correction is 1."""
    rate, tau = 0.1, 1e-2
    moments = optax.scale_by_adam(b1=0.9, b2=0.99, eps=tau, eps_root=0.0)
    start = jax.tree.map(lambda p: jnp.full_like(p, tau**2), small_tree())
    state, steps = moments.init(small_tree())._replace(nu=start, count=jnp.int32(10**6)), []
    for g in mean_gradients():
        step, state = moments.update(g, state)
        steps.append(jax.tree.map(lambda s: -rate * s, step))
    assert_close(trajectory(get_aggregator("fedadam", learning_rate=rate, tau=tau)), steps)


@pytest.mark.parametrize(
    ("name", "options", "next_v"),
    [
        ("fedadam", {"beta2": 0.9}, lambda v, g2: 0.9 * v + 0.1 * g2),
        ("fedyogi", {"beta2": 0.95}, lambda v, g2: np.where(v > g2, v - 0.05 * g2, v + 0.05 * g2)),
        ("fedadagrad", {}, lambda v, g2: v + g2),
    ],
)
@pytest.mark.parametrize("beta1", [0.0, 0.7])
def test_adaptive_rules_match_numpy(name, options, next_v, beta1):
    rate, tau = 0.2, 3e-3
    aggregator = get_aggregator(name, learning_rate=rate, beta1=beta1, tau=tau, **options)
    m = jax.tree.map(np.zeros_like, mean_gradients()[0])
    v = jax.tree.map(lambda x: np.full_like(x, tau**2), m)
    for g, step in zip(mean_gradients(), trajectory(aggregator), strict=True):
        m = jax.tree.map(lambda m, x: beta1 * m + (1 - beta1) * x, m, g)
        v = jax.tree.map(lambda v, x: next_v(v, x**2), v, g)
        assert_close(step, jax.tree.map(lambda m, v: -rate * m / (np.sqrt(v) + tau), m, v))


def test_yogi_and_adam_differ():
    """Guards the oracles above: on these deltas the sign matters."""
    yogi = trajectory(get_aggregator("fedyogi", learning_rate=0.1))[-1]["w"]
    adam = trajectory(get_aggregator("fedadam", learning_rate=0.1))[-1]["w"]
    assert np.max(np.abs(yogi - adam)) > 0.01 * np.max(np.abs(adam))


@pytest.mark.parametrize("name", RULES)
def test_unequal_weights_weigh_the_mean(name):
    """A client of weight 2 counts as two clients; only the ratios of the weights count."""
    aggregator = get_aggregator(name, **RULES[name])
    delta = deltas()[0]
    twice = jax.tree.map(lambda d: jnp.concatenate([d, d[1:2]]), delta)
    state = aggregator.init((), small_tree())
    expected, _ = aggregator.update((), cohort(twice), state, small_tree())
    weighted, _ = aggregator.update((), cohort(delta, [7.0, 14.0, 7.0, 7.0]), state, small_tree())
    assert_close(weighted, expected)


@pytest.mark.parametrize("name", RULES)
def test_a_client_of_weight_zero_has_no_influence(name):
    aggregator = get_aggregator(name, **RULES[name])
    delta = deltas()[0]
    other = jax.tree.map(lambda d: d.at[2].set(1e3), delta)
    state = aggregator.init((), small_tree())
    results = [
        aggregator.update((), cohort(d, [1.0, 2.0, 0.0, 1.0]), state, small_tree()) for d in (delta, other)
    ]
    assert_close(results[0], results[1], rtol=0.0, atol=0.0)


@pytest.mark.parametrize("name", RULES)
def test_the_order_of_the_clients_does_not_matter(name):
    aggregator = get_aggregator(name, **RULES[name])
    order = jnp.array([2, 0, 3, 1])
    delta, weight = deltas()[0], jnp.array(WEIGHTS)
    state = aggregator.init((), small_tree())
    plain = aggregator.update((), cohort(delta, weight), state, small_tree())
    moved = jax.tree.map(lambda d: d[order], delta)
    permuted = aggregator.update((), cohort(moved, weight[order]), state, small_tree())
    assert_close(permuted, plain)


def one_round(aggregator, local_rate: float, batches: dict):
    """The parameters after one federated round of plain local SGD."""
    task = regression_task()
    parts = assemble(task, independently(local_training(task, optax.sgd(local_rate))), aggregator)
    server = init_server((), parts, small_tree(), (), CLIENTS)
    everyone = jnp.arange(CLIENTS)
    server, _ = federated_round((), parts, server, batches, jnp.ones(CLIENTS), everyone, jax.random.key(0))
    return server.params


def gradient_of_all(batches: dict):
    """The gradient of the mean loss over the round's K*B examples."""
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, leaf.shape[-1]), batches)
    return jax.grad(lambda params: regression_task().loss(params, (), None, flat)[0])(small_tree())


def test_one_local_step_of_fedavg_is_sgd_on_the_mean_gradient():
    batches = regression_batches(jax.random.key(2), CLIENTS, 1, 5)
    expected = jax.tree.map(lambda p, g: p - 0.3 * g, small_tree(), gradient_of_all(batches))
    assert_close(one_round(get_aggregator("fedavg"), 0.3, batches), expected)
    assert_close(one_round(get_aggregator("sgd", learning_rate=0.3), 1.0, batches), expected)


def test_several_local_steps_are_not_sgd_on_the_mean_gradient():
    """Guards the identity above: with H = 3 it must fail."""
    batches = regression_batches(jax.random.key(2), CLIENTS, 3, 5)
    sgd = jax.tree.map(lambda p, g: p - 0.9 * g, small_tree(), gradient_of_all(batches))
    moved = one_round(get_aggregator("fedavg"), 0.3, batches)
    assert np.max(np.abs(moved["w"] - sgd["w"])) > 1e-3


def test_adam_over_one_local_step_is_adam_on_the_mean_gradient():
    batches = regression_batches(jax.random.key(3), CLIENTS, 1, 5)
    optimizer = optax.adam(0.05)
    step, _ = optimizer.update(gradient_of_all(batches), optimizer.init(small_tree()))
    expected = optax.apply_updates(small_tree(), step)
    assert_close(one_round(get_aggregator("adam", learning_rate=0.05), 1.0, batches), expected)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("fedavgm", {"beta": 1.0}, r"fedavgm: expected beta in \[0, 1\), got 1.0"),
        (
            "fedavgm",
            {"beta": 0.9, "learning_rate": -1.0},
            "fedavgm: expected learning_rate above 0, got -1.0",
        ),
        ("diloco", {"beta": -0.1}, r"diloco: expected beta in \[0, 1\), got -0.1"),
        ("nesterov-decay", {"rounds": 0.0}, "nesterov-decay: expected rounds above 0, got 0.0"),
        ("nesterov-decay", {"final": 1.0}, r"nesterov-decay: expected final in \[0, 1\), got 1.0"),
        ("diloco", {"learning_rate": 0.0}, "diloco: expected learning_rate above 0, got 0.0"),
        ("fedadam", {"learning_rate": 0.1, "beta1": 1.5}, r"fedadam: expected beta1 in \[0, 1\), got 1.5"),
        ("fedadam", {"learning_rate": 0.1, "beta2": 1.0}, r"fedadam: expected beta2 in \[0, 1\), got 1.0"),
        ("fedyogi", {"learning_rate": 0.1, "beta2": -1}, r"fedyogi: expected beta2 in \[0, 1\), got -1"),
        ("fedyogi", {"learning_rate": 0.1, "tau": 0}, "fedyogi: expected tau above 0, got 0"),
        (
            "fedadagrad",
            {"learning_rate": float("nan")},
            "fedadagrad: expected learning_rate above 0, got nan",
        ),
        ("sgd", {"learning_rate": float("inf")}, "sgd: expected learning_rate above 0, got inf"),
        ("adam", {"learning_rate": 0.0}, "adam: expected learning_rate above 0, got 0.0"),
    ],
)
def test_values_out_of_range_are_named(name, options, message):
    with pytest.raises(UserError, match=message):
        get_aggregator(name, **options)


GRADIENTS = ([0.5, -1.0], [0.1, 2.0], [-0.3, 0.4])
START = np.array([1.0, -2.0])


def local_steps(optimizer) -> np.ndarray:
    params = jnp.array(START, jnp.float32)
    state = optimizer.init(params)
    for g in GRADIENTS:
        step, state = optimizer.update(jnp.array(g), state, params)
        params = optax.apply_updates(params, step)
    return params


def test_momentum_is_heavy_ball():
    w, v = START, np.zeros(2)
    for g in GRADIENTS:
        v = 0.9 * v + g
        w = w - 0.1 * v
    np.testing.assert_allclose(local_steps(LOCAL_OPTIMIZERS["momentum"](0.1)), w, rtol=1e-5)


def test_adamw_decouples_its_weight_decay():
    w, m, v = START, np.zeros(2), np.zeros(2)
    for t, g in enumerate(np.array(GRADIENTS), start=1):
        m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g**2
        w = w - 0.1 * (m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.95**t)) + 1e-8) + 0.1 * w)
    np.testing.assert_allclose(local_steps(LOCAL_OPTIMIZERS["adamw"](0.1)), w, rtol=1e-5)


ANY_MODEL = [name for name in LOCAL_OPTIMIZERS if name != "adamw-finetuning"]
"""adamw-finetuning is for vision transformers alone: tests/test_ssl_probes.py."""


@pytest.mark.parametrize("name", ANY_MODEL)
def test_local_optimizers_train_a_client_at_traced_rates(name):
    """A sweep over local rates is one program: vmap over the rate, scan over the local steps."""
    batch = regression_batches(jax.random.key(4), 8)
    batches = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (40, *leaf.shape)), batch)
    task = regression_task()

    def loss_after(rate):
        local = local_training(task, LOCAL_OPTIMIZERS[name](rate))
        delta, *_ = local.run(small_tree(), (), local.init(small_tree()), jax.random.key(0), batches)
        return task.loss(jax.tree.map(jnp.add, small_tree(), delta), (), None, batch)[0]

    untrained = task.loss(small_tree(), (), None, batch)[0]
    losses = jax.jit(jax.vmap(loss_after))(jnp.array([0.01, 0.03]))
    assert np.all(losses < untrained)
    assert losses[1] < losses[0]
