"""Clients one at a time: `start`, `add`, `finish` are `update` but for rounding, in the memory of a few models."""

import functools
import importlib
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import CLASSICAL, assert_close, cohort, random_tree, small_tree

from benchmarks import spread
from learned_aggregation import DropIn, get_aggregator, masked
from learned_aggregation.aggregators import AGGREGATORS
from learned_aggregation.errors import UserError
from learned_aggregation.pretrained.drop_in import OutsideTrainedRange
from learned_aggregation.problems.mup import Factors, mup_aggregator

CLIENTS = 5
READS_EVERY_DELTA = ("fedlagg", "fedlagg-adafac", "fedlagg-wavg")
STREAMED = [name for name in AGGREGATORS if name not in READS_EVERY_DELTA]
WEIGHTS = np.float32([3.0, 1e-3, 0.0, 1e3, 40.0])
"""Over six decades; the third client has dropped out."""
ORDERS = ([0, 1, 2, 3, 4], [2, 3, 1, 4, 0], [4, 0, 1, 3, 2])


@functools.cache
def drop_in(name: str) -> DropIn:
    """Far from its initial theta, shared by the tests: compiling is what takes their time."""
    options = {"num_grads": CLIENTS, "hidden_size": 4} | CLASSICAL.get(name, {})
    theta = get_aggregator(name, **options).init_theta(jax.random.key(1))
    theta = jax.tree.map(jnp.add, theta, random_tree(jax.random.key(2), theta, scale=0.2))
    return DropIn(name, theta, options=options)


def deltas_of(params, seed=0, clients=CLIENTS):
    return random_tree(jax.random.key(seed), params, (clients,), 0.1)


def one(deltas, k):
    return jax.tree.map(lambda leaf: leaf[k], deltas)


def added(agg, params, deltas, weights, order):
    partial = agg.start(params)
    for k in order:
        partial = agg.add(partial, one(deltas, k), weights[k])
    return partial


@pytest.mark.parametrize("name", STREAMED)
def test_it_is_update_in_any_order(name):
    """Three rounds, each in another order, with weights over six decades and a client that dropped out with a NaN."""
    agg = drop_in(name)
    params = streamed = small_tree()
    state = streamed_state = agg.init(params)
    for seed, order in enumerate(ORDERS):
        deltas = jax.tree.map(lambda leaf: leaf.at[2].set(jnp.nan), deltas_of(params, seed))
        partial = added(agg, streamed, deltas, WEIGHTS, order)
        streamed, streamed_state = agg.finish(streamed, partial, streamed_state)
        params, state = agg.update(params, deltas, WEIGHTS, state)
        assert_close(streamed, params, rtol=1e-5, atol=1e-6)
        assert_close(streamed_state, state, rtol=1e-4, atol=1e-6)
    assert agg._add._cache_size() == 1


@pytest.mark.parametrize("name", STREAMED)
def test_a_nan_that_counts_spoils_what_update_spoils(name):
    """One number of one client: the same parameters are NaN, whenever the client comes."""
    agg, params = drop_in(name), small_tree()
    deltas = deltas_of(params)
    deltas["b"] = deltas["b"].at[1, 2].set(jnp.nan)
    expected, _ = agg.update(params, deltas, WEIGHTS, agg.init(params))
    assert np.isnan(expected["b"][2])
    for order in ORDERS:
        got, _ = agg.finish(params, added(agg, params, deltas, WEIGHTS, order), agg.init(params))
        jax.tree.map(lambda a, e: np.testing.assert_array_equal(np.isnan(a), np.isnan(e)), got, expected)


def test_a_client_of_weight_0_leaves_no_trace():
    """Bit for bit, first, in the middle or last, NaN or not."""
    agg, params = drop_in("fedlagg-set"), small_tree()
    deltas = jax.tree.map(lambda leaf: leaf.at[2].set(jnp.inf), deltas_of(params))
    expected = added(agg, params, deltas, WEIGHTS, [0, 1, 3, 4])
    for order in ([2, 0, 1, 3, 4], [0, 1, 2, 3, 4], [0, 1, 3, 4, 2]):
        partial = added(agg, params, deltas, WEIGHTS, order)
        jax.tree.map(np.testing.assert_array_equal, partial.sums, expected.sums)
        assert partial.clients == 5


@pytest.mark.parametrize("unit", [1e-30, 1e30])
def test_the_unit_of_the_weights_does_not_matter(unit):
    agg, params = drop_in("fedlagg-set"), small_tree()
    deltas, weights = deltas_of(params), np.float32([1, 2, 3, 4, 5])
    results = [
        agg.finish(params, added(agg, params, deltas, w, ORDERS[0]), agg.init(params))
        for w in (weights, unit * weights)
    ]
    assert_close(results[1], results[0])


@pytest.mark.parametrize("name", READS_EVERY_DELTA)
def test_a_rule_that_reads_every_delta_says_so(name):
    agg = drop_in(name)
    assert not agg.one_at_a_time
    with pytest.raises(
        UserError, match=rf"^{name}: expected a rule that reads sums .*one by one\. Pass all"
    ) as error:
        agg.start(small_tree())
    assert "\n" not in str(error.value)


def test_the_rules_that_can():
    assert [name for name in AGGREGATORS if drop_in(name).one_at_a_time] == STREAMED


@functools.partial(jax.jit, static_argnums=0)
def streamed_step(rule, theta, update, params):
    """One round of the core's sums."""
    partial = rule.sums.start(params)
    for k in range(CLIENTS):
        partial = rule.sums.add(partial, one(update.delta, k), update.weight[k])
    return rule.sums.finish(theta, partial, rule.init(theta, params), params)


@pytest.mark.parametrize("name", ["fedadam", "fedlagg-set"])
@pytest.mark.parametrize("wrap", ["masked", "mup"])
def test_wrappers_carry_the_sums(name, wrap):
    """What a wrapper does to `update` it does to the sums."""
    agg, params = drop_in(name), small_tree()
    ones = jax.tree.map(lambda _: 1.0, params)
    wrapped = {
        "masked": masked(agg.rule, {"w": True, "b": False}),
        "mup": mup_aggregator(agg.rule, Factors(ones, ones, ones, {"w": 0.125, "b": 1.0})),
    }[wrap]
    update = cohort(deltas_of(params), WEIGHTS)
    state = wrapped.init(agg.theta, params)
    expected = jax.jit(wrapped.update)(agg.theta, update, state, params)
    got = streamed_step(wrapped, agg.theta, update, params)
    assert_close(got, expected, rtol=1e-4)
    plain, _ = streamed_step(agg.rule, agg.theta, update, params)
    assert not np.allclose(plain["w"], got[0]["w"], rtol=1e-2), "the wrapper does nothing"
    for rule in ("fedlagg", "fedlagg-adafac"):
        every = masked(drop_in(rule).rule, True)
        assert every.sums is None
        assert mup_aggregator(drop_in(rule).rule, Factors(ones, ones, ones, ones)).sums is None


def test_in_a_scan_and_under_vmap():
    """Inside the user's own jit, several models at a time."""
    agg = drop_in("fedlagg-set")
    params = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), small_tree())
    deltas = jax.vmap(lambda p, key: random_tree(key, p, (CLIENTS,), 0.1))(
        params, jax.random.split(jax.random.key(0))
    )

    @jax.jit
    @jax.vmap
    def one_round(params, deltas):
        def body(partial, client):
            return agg.add(partial, *client), None

        partial, _ = jax.lax.scan(body, agg.start(params), (deltas, jnp.asarray(WEIGHTS)))
        return agg.finish(params, partial, agg.init(params))[0]

    got = one_round(params, deltas)
    for i in range(2):
        alone = one(params, i)
        expected, _ = agg.update(alone, one(deltas, i), WEIGHTS, agg.init(alone))
        assert_close(one(got, i), expected)


def test_dtypes_stay_and_sums_are_float32():
    agg = drop_in("diloco")
    params = {"w": jnp.ones((2, 3), jnp.bfloat16), "b": jnp.zeros((), jnp.float16)}
    partial = agg.start(params)
    assert {leaf.dtype for leaf in jax.tree.leaves(partial.sums)} == {np.dtype("float32")}
    for k in range(3):
        partial = agg.add(partial, one(deltas_of(params, clients=3), k))
    after, _ = agg.finish(params, partial, agg.init(params))
    expected, _ = agg.update(params, deltas_of(params, clients=3), None, agg.init(params))
    assert jax.tree.map(lambda leaf: leaf.dtype, after) == jax.tree.map(lambda leaf: leaf.dtype, params)
    assert_close(after, expected, rtol=1e-2)


def test_adding_is_in_place():
    """The compiled `add` gives its result the memory of what came, and needs at most one more model."""
    agg = drop_in("fedlagg-set")
    params = {"w": jnp.zeros((100, 100)), "b": jnp.zeros(1000)}
    partial = agg.start(params)
    memory = agg._add.lower(partial, params, jnp.float32(1.0)).compile().memory_analysis()
    sums = sum(leaf.nbytes for leaf in jax.tree.leaves(partial))
    assert sums == 3 * 4 * 11_000 + 16
    assert memory.alias_size_in_bytes == sums
    assert memory.temp_size_in_bytes <= 4 * 11_000 + 1000
    agg.add(partial, params)
    assert partial.weight.is_deleted()


GOOD = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
BAD_CLIENTS = {
    "a missing leaf": ({"w": GOOD["w"]}, 1.0, "a delta with the same tree, got no leaf b"),
    "another shape": (GOOD | {"b": jnp.ones(4)}, 1.0, r"delta of shape \(3,\) in b, got float32 \(4,\)"),
    "stacked": (GOOD | {"b": jnp.ones((2, 3))}, 1.0, r"delta of shape \(3,\) in b, got float32 \(2, 3\)"),
    "whole numbers": (GOOD | {"b": jnp.ones(3, int)}, 1.0, r"floating-point delta .* in b, got int32 \(3,\)"),
    "a negative weight": (GOOD, -1.0, "the weight of one client, a number of at least 0, got -1.0"),
    "a NaN weight": (GOOD, np.nan, "a number of at least 0, got nan"),
    "an infinite weight": (GOOD, np.inf, "a number of at least 0, got inf"),
    "weights of all": (GOOD, np.ones(2), r"the weight of one client, .*, got \[1.0, 1.0\]"),
}


@pytest.mark.parametrize("case", BAD_CLIENTS)
def test_a_client_that_does_not_fit_is_refused_and_the_round_goes_on(case):
    delta, weight, message = BAD_CLIENTS[case]
    agg = drop_in("fedavg")
    partial = agg.add(agg.start(GOOD), GOOD, 2.0)
    with pytest.raises(UserError, match=f"^fedavg: expected .*{message}") as error:
        agg.add(partial, delta, weight)
    assert "\n" not in str(error.value)
    after, _ = agg.finish(GOOD, agg.add(partial, GOOD, 1.0), ())  # nothing was lost
    assert_close(after, jax.tree.map(lambda leaf: 2.0 * leaf, GOOD))


def test_a_round_that_cannot_end_is_refused():
    agg = drop_in("fedlagg-set")
    empty, state = agg.start(GOOD), agg.init(GOOD)
    with pytest.raises(UserError, match="expected a client of weight above 0, got 0 of weight 0"):
        agg.finish(GOOD, empty, state)
    empty = agg.add(empty, GOOD, 0.0)
    with pytest.raises(UserError, match=r"got 1 of weight 0\. Skip a round that no client took part in"):
        agg.finish(GOOD, empty, state)
    partial = agg.add(empty, GOOD)
    other = GOOD | {"b": jnp.ones(4)}
    with pytest.raises(
        UserError, match="expected a partial of these params, got one of other leaves or shapes"
    ):
        agg.finish(other, partial, agg.init(other))
    with pytest.raises(UserError, match="expected a state of these params"):
        agg.finish(GOOD, partial, agg.init(other))
    agg.finish(GOOD, partial, state)


def test_the_number_of_clients_is_checked_against_the_trained_range():
    agg = DropIn("fedavg", name="mine", trained={"num_grads": (2, 3)})
    partial = functools.reduce(lambda p, _: agg.add(p, GOOD), range(4), agg.start(GOOD))
    with pytest.warns(OutsideTrainedRange, match="mine: meta-trained with num_grads 2 to 3, used with 4"):
        agg.finish(GOOD, partial, agg.init(GOOD))


@pytest.mark.parametrize("clients", [64, 512])
def test_the_error_of_the_spread_at_unlike_magnitudes(clients):
    """docs/performance.md's table: at most what two passes lose at mean / spread 1e6, small elsewhere."""
    found = {case.name: spread.error(spread.shipped, case) for case in spread.cases(clients, 300)}
    for name, error in found.items():
        bound = 0.5 if "spread 1e+06" in name else 1e-3 if "spread 1000" in name else 5e-6
        assert error < bound, name
    assert len(found) == 9


def test_the_other_forms_fail_where_ours_does_not():
    """Else the test above would show nothing."""
    cases = {case.name: case for case in spread.cases(64, 300)}
    assert spread.error(spread.sums_of_squares, cases["mean / spread 1000, equal weights"]) > 0.1
    for form in (spread.about_the_first, spread.west):
        assert spread.error(form, cases["the same with 1e-6 of a weight"]) > 1e-3


def test_the_guides_loop_runs():
    guide = (Path(__file__).parent.parent / "docs/integrations.md").read_text()
    program = re.search(r"```python\n([^`]*agg\.add[^`]*)```", guide)
    assert program
    agg, params = drop_in("fedavg"), small_tree()
    names = {"agg": agg, "params": params, "state": agg.init(params)}
    clients = [(one(deltas_of(params), k), weight) for k, weight in enumerate(WEIGHTS)]
    exec(compile(program[1], "integrations.md", "exec"), names | {"arriving_clients": lambda: clients}, names)
    assert_close(names["params"], agg.update(params, deltas_of(params), WEIGHTS, ())[0])


@pytest.mark.parametrize("module", ["aggregators.sums", "pretrained.drop_in"])
def test_the_examples_of_the_docstrings_run(module):
    import doctest

    result = doctest.testmod(importlib.import_module(f"learned_aggregation.{module}"))
    assert result.failed == 0
    assert result.attempted >= 4
