"""J, F and the statistics against brute force, pixel by pixel."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_aggregation.ssl.segmentation import (
    boundary,
    boundary_f,
    jaccard,
    judged_frames,
    scores,
    statistics,
    tolerance,
)


def edges(mask):
    height, width = mask.shape

    def at(y, x):
        return bool(mask[y, x]) if y < height and x < width else False

    found = set()
    for y in range(height):
        for x in range(width):
            here, last_row, last_column = at(y, x), y == height - 1, x == width - 1
            beside = [] if last_column else [at(y, x + 1)]
            low = [] if last_row else [at(y + 1, x)]
            corner = [] if last_row or last_column else [at(y + 1, x + 1)]
            if any(here != other for other in beside + low + corner):
                found.add((y, x))
    return found


def slow_f(truth, found, pixels):
    true_edge, found_edge = edges(truth), edges(found)
    if not true_edge or not found_edge:
        return float(not true_edge and not found_edge)

    def share(of, other):
        near = [min((y - v) ** 2 + (x - u) ** 2 for v, u in other) <= pixels**2 for y, x in of]
        return sum(near) / len(near)

    precision, recall = share(found_edge, true_edge), share(true_edge, found_edge)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def slow_j(truth, found):
    both = sum(a and b for a, b in zip(truth.flat, found.flat, strict=True))
    either = sum(a or b for a, b in zip(truth.flat, found.flat, strict=True))
    return both / either if either else 1.0


@pytest.fixture(scope="module")
def pairs():
    """Masks of random rectangles; among them empty ones, full ones and ones that touch the edge."""
    rng = np.random.default_rng(0)
    masks = np.zeros((2, 24, 17, 23), bool)
    for mask in masks.reshape(-1, 17, 23)[4:]:
        for _ in range(rng.integers(1, 4)):
            y, x = rng.integers(0, 15), rng.integers(0, 20)
            mask[y : y + rng.integers(1, 9), x : x + rng.integers(1, 9)] ^= True
    masks[:, 3], masks[1, 5] = True, False
    return masks


def test_edges_are_those_of_the_public_evaluation(pairs):
    for mask, found in zip(pairs[0], np.asarray(jax.jit(boundary)(pairs[0])), strict=True):
        assert edges(mask) == set(zip(*(a.tolist() for a in np.nonzero(found)), strict=True))


@pytest.mark.parametrize("bound", [0.008, 0.1, 2, 4])
def test_f_is_brute_force(pairs, bound):
    truth, found = pairs
    pixels = tolerance(17, 23, bound)
    slow = [slow_f(a, b, pixels) for a, b in zip(truth, found, strict=True)]
    fast = jax.jit(lambda a, b: boundary_f(a, b, bound))(truth, found)
    np.testing.assert_allclose(fast, slow, atol=1e-6)
    assert len({round(value, 3) for value in slow}) > 8


def test_j_is_brute_force(pairs):
    truth, found = pairs
    np.testing.assert_allclose(
        jaccard(truth, found), [slow_j(a, b) for a, b in zip(truth, found, strict=True)], rtol=1e-6
    )


def test_tolerance_is_rounded_up():
    assert tolerance(480, 854) == math.ceil(0.008 * math.hypot(480, 854)) == 8
    assert tolerance(64, 64) == 1


def test_scores_are_of_each_object():
    truth = np.zeros((3, 8, 8), np.uint8)
    truth[:, :4, :4], truth[:, 4:, 4:] = 1, 2
    found = np.where(truth == 2, 0, truth)
    j, f = scores(jnp.asarray(truth), jnp.asarray(found), 3)
    np.testing.assert_array_equal(j, [[1, 1, 1], [0, 0, 0]])
    np.testing.assert_array_equal(f, [[1, 1, 1], [0, 0, 0]])


def test_statistics_cut_quarters_that_share_their_ends():
    values = np.array([1.0, 1.0, 0.9, 0.6, 0.5, 0.4, 0.2, 0.1])
    mean, recall, decay = statistics(values)
    assert mean == pytest.approx(values.mean())
    assert recall == 0.5
    # ends 0, 2 (1.75 + 1 = 2.75 -> 3), ..., 7: the first three values and the last three
    assert decay == pytest.approx(np.mean([1, 1, 0.9]) - np.mean([0.4, 0.2, 0.1]))


def test_the_first_and_the_last_frame_do_not_count():
    assert list(range(5))[judged_frames(5)] == [1, 2, 3]
