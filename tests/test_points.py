"""Grids, random points, winners and the comparison's arithmetic."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learned_aggregation.meta_testing.comparison import Entry, compare, interval, rounds_to
from learned_aggregation.meta_testing.points import (
    draw,
    grid,
    last_values,
    mean_values,
    on_edge,
    sweep_points,
    widened,
    winner,
)
from learned_aggregation.types import Traffic


def test_a_grid_has_every_combination_once():
    points = grid({"a": [1, 2], "b": ["x", "y", "z"]})
    assert len(points) == 6
    assert len({tuple(p.items()) for p in points}) == 6
    assert points[0] == {"a": 1, "b": "x"}
    assert points[1] == {"a": 1, "b": "y"}
    assert grid({}) == [{}]


def test_run_cap_shortens_a_grid():
    sweep = {"method": "grid", "parameters": {"a": {"values": [1, 2, 3]}, "b": {"value": 7}}, "run_cap": 2}
    assert sweep_points(sweep, seed=0) == [{"a": 1, "b": 7}, {"a": 2, "b": 7}]


PARAMETERS = {
    "beta": {"distribution": "uniform", "min": 0.5, "max": 0.9},
    "learning_rate": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1.0},
    "num_local_steps": {"distribution": "int_uniform", "min": 2, "max": 4},
    "local_learning_rate": {"distribution": "q_uniform", "min": 0.1, "max": 1.0, "q": 0.1},
    "task": {"values": ["a", "b"], "probabilities": [0.9, 0.1]},
    "seed": {"value": 3},
}


def test_random_points_follow_their_distributions():
    points = draw(PARAMETERS, 4000, seed=1)
    assert points == draw(PARAMETERS, 4000, seed=1)
    assert points != draw(PARAMETERS, 4000, seed=2)
    column = {name: [p[name] for p in points] for name in PARAMETERS}
    assert 0.5 <= min(column["beta"]) < 0.51 < 0.89 < max(column["beta"]) <= 0.9
    assert abs(np.mean(np.array(column["learning_rate"]) < 1e-2) - 0.5) < 0.03
    assert set(column["num_local_steps"]) == {2, 3, 4}
    assert np.allclose(np.array(column["local_learning_rate"]) * 10 % 1 % 0.999999, 0, atol=1e-5)
    assert abs(column["task"].count("a") / 4000 - 0.9) < 0.02
    assert set(column["seed"]) == {3}


@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=1, max_size=8), st.booleans()
)
def test_the_winner_is_finite_where_any_is(scores, minimize):
    best = winner(scores, minimize)
    finite = [s for s in scores if np.isfinite(s)]
    if best is None:
        assert not finite
    else:
        assert scores[best] == (min(finite) if minimize else max(finite))


def test_a_diverged_run_is_infinitely_bad():
    assert list(last_values(np.array([[1.0, np.nan], [2.0, 0.5]]))) == [np.inf, 0.5]


def test_the_mean_leaves_out_the_untrained_model():
    curves = np.array([[9.0, 1.0, 0.5], [9.0, np.nan, 0.5], [np.inf, 3.0, 1.0]])
    assert list(mean_values(curves)) == [0.75, np.inf, 2.0]


def test_edges_are_named_for_numbers_only():
    parameters = {"beta": [0.1, 0.5, 0.9], "task": ["a", "b"], "seed": [1]}
    assert on_edge({"beta": 0.9, "task": "a", "seed": 1}, parameters) == ["beta"]
    assert on_edge({"beta": 0.5, "task": "b", "seed": 1}, parameters) == []


def test_no_momentum_is_an_end_and_no_edge():
    assert on_edge({"beta": 0.0, "rate": 0.5}, {"beta": [0.0, 0.5], "rate": [0.5, 1.0]}) == ["rate"]


def test_a_strength_goes_from_none_to_all():
    grid = {"rule_options.strength": [0.25, 1.0]}
    for strength, edges, grown in ((1.0, [], [0.25, 1.0]), (0.25, [*grid], [0.0, 0.25, 1.0])):
        point = {"rule_options.strength": strength}
        assert on_edge(point, grid) == edges
        assert widened(point, grid) == {"rule_options.strength": grown}


@pytest.mark.parametrize("grid", [[1.0, 2.0], [0.5, 2.0], [2.0, 3.0]])
def test_a_strength_above_1_is_an_edge_and_grows_no_further(grid):
    point, parameters = {"strength": grid[-1]}, {"strength": grid}
    assert on_edge(point, parameters) == ["strength"]
    assert widened(point, parameters) == parameters


def test_a_grid_grows_beyond_the_edges_of_its_best_point():
    parameters = {"rate": [0.5, 1.0, 2.0], "beta": [0.5, 0.8], "seed": [1, 2]}
    grown = {"rate": [0.25, 0.5, 1.0, 2.0], "beta": [0.5, 0.8, 0.92], "seed": [1, 2]}
    assert widened({"rate": 0.5, "beta": 0.8, "seed": 2}, parameters) == grown
    assert widened({"rate": 2.0, "beta": 0.5, "seed": 1}, parameters) == {
        "rate": [0.5, 1.0, 2.0, 4.0],
        "beta": [0.0, 0.5, 0.8],
        "seed": [1, 2],
    }
    assert widened({"rate": 2.0}, {"rate": [1.0, 2.0]}) == {"rate": [1.0, 2.0, 4.0]}
    assert widened({"rate": 0.1}, {"rate": [0.0, 0.1]}) == {"rate": [0.0, 0.1, 0.2]}
    assert widened({"rate": 1.0, "beta": 0.0}, {"rate": [0.5, 1.0, 2.0], "beta": [0.0, 0.5]}) == {
        "rate": [0.5, 1.0, 2.0],
        "beta": [0.0, 0.5],
    }


def entry(label, loss, seeds=12, traffic=None):
    """A method whose seeds differ by a little noise around the curve `loss` [E]; K = 2."""
    noise = np.random.default_rng(0).normal(0, 1e-3, (seeds, 1))
    curve = np.asarray(loss)[None] + noise
    rounds = np.arange(len(loss))
    test = {"loss": curve, "accuracy": 1 - curve}
    return Entry(label, {}, rounds, test, traffic or Traffic(up=320.0, down=80.0), 2, gradients=1024)


def test_speed_up_of_a_curve_that_runs_four_times_as_fast():
    slow = entry("slow", np.exp(-np.arange(101) / 50))
    fast = entry("fast", np.exp(-np.arange(101) / 12.5))
    flat = entry("flat", np.ones(101))
    rows = {row["entrant"]: row for row in compare([slow, fast, flat], slow)}
    assert rows["slow"]["rounds_to_100"] == 100
    assert rows["slow"]["speedup_100"] == rows["slow"]["speedup_100_low"] == 1.0
    assert rows["fast"]["rounds_to_100"] == 25
    assert rows["fast"]["speedup_100"] == 4.0
    assert rows["fast"]["bytes_to_target"] == 25 * 90
    assert rows["fast"]["bits_to_target"] == 25 * 400
    assert rows["fast"]["client_gradients_to_target"] == 25 * 1024
    assert rows["flat"]["rounds_to_100"] == float("inf")
    assert rows["flat"]["speedup_100"] == 0.0
    assert rows["flat"]["bits_to_target"] == float("inf")


def test_bytes_are_of_the_cohort_and_bits_of_one_client():
    slow = entry("slow", np.exp(-np.arange(101) / 50))
    sign = entry("sign", np.exp(-np.arange(101) / 50), traffic=Traffic(up=10.5, down=0.0))
    rows = {row["entrant"]: row for row in compare([slow, sign], slow)}
    names = ("bytes_up_per_round", "bytes_down_per_round", "bits_up_per_client", "bits_down_per_client")
    assert [str(rows["slow"][name]) for name in names] == ["80", "10", "320", "80"]
    assert [rows["sign"][name] for name in names] == [2.625, 0, 10.5, 0]
    assert rows["sign"]["bits_to_target"] == 100 * 10.5
    silent = entry("silent", np.ones(101), traffic=Traffic(0.0, 0.0))
    assert compare([slow, silent], slow)[1]["bits_to_target"] == float("inf")


def test_rounds_to_a_target():
    rounds = np.array([0, 10, 20])
    assert rounds_to(0.5, rounds, np.array([1.0, 0.5, 0.1])) == 10
    assert rounds_to(0.05, rounds, np.array([1.0, 0.5, 0.1])) == float("inf")
    assert rounds_to(0.5, rounds, np.array([1.0, np.nan, 0.4])) == 20


def test_the_interval_is_student_s():
    assert interval(np.array([1.0, 2.0, 3.0])) == pytest.approx(4.302653 / np.sqrt(3))
    assert np.isnan(interval(np.array([1.0])))
