"""Compressors against NumPy and against the inequalities of their papers, beyond what all of them promise."""

import functools
import itertools
import math

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from learned_aggregation import get_compressor
from learned_aggregation.federated.compressors.statistical import CUT, LEVELS

N = 40
DRAWS = 4000
few = settings(max_examples=40, deadline=None, derandomize=True)
numbers = st.floats(-1e4, 1e4, width=32) | st.sampled_from([0.0, 1.0, -1.0, 1e-3])
vectors = hnp.arrays(np.float32, N, elements=numbers)
with_ties = hnp.arrays(np.float32, N, elements=st.integers(-3, 3).map(float))


@functools.cache
def _compiled(name: str, options: tuple):
    compressor = get_compressor(name, **dict(options))

    def sent(x, feedback, key):
        message, feedback = compressor.encode(x, feedback, key)
        return compressor.decode(message), feedback

    return compressor, jax.jit(sent), jax.jit(jax.vmap(sent, in_axes=(None, None, 0)))


def decoded(name: str, x, seed: int = 0, **options) -> np.ndarray:
    """What the server sees of x in the first round."""
    compressor, sent, _ = _compiled(name, tuple(options.items()))
    x = jnp.asarray(x)
    return np.asarray(sent(x, compressor.init(x), jax.random.key(seed))[0])


def drawn(name: str, x, **options) -> np.ndarray:
    """[DRAWS, ...], by as many keys."""
    compressor, _, many = _compiled(name, tuple(options.items()))
    keys = jax.random.split(jax.random.key(1), DRAWS)
    return np.asarray(many(jnp.asarray(x), compressor.init(x), keys)[0], np.float64)


def squared(x) -> float:
    return float(np.sum(np.asarray(x, np.float64) ** 2))


def blocks(x: np.ndarray, chunk: int) -> list[np.ndarray]:
    return [x[i : i + chunk] for i in range(0, len(x), chunk)]


def top(x: np.ndarray, k: int) -> np.ndarray:
    """By sorting; of equal magnitudes the first."""
    kept = np.argsort(-np.abs(x), kind="stable")[:k]
    return np.where(np.isin(np.arange(len(x)), kept), x, 0.0)


def heavy_tailed(seed: int, shape=(N,)) -> np.ndarray:
    return np.random.default_rng(seed).standard_t(2, shape).astype(np.float32)


BITS = (
    ("none", {}, 32 * (1 + 37 + 4100)),
    ("topk", {"fraction": 0.01}, (32 + 0) + (32 + 6) + 41 * (32 + 13)),
    ("topk", {"fraction": 0.25, "chunk": 16}, 32 + 10 * (32 + 4) + (256 * 4 + 1) * (32 + 4)),
    ("randk", {"fraction": 0.01}, 32 + 32 * (1 + 1 + 41)),
    ("randk", {"fraction": 0.25, "chunk": 16}, 32 + 32 * (1 + (4 + 4 + 2) + (256 * 4 + 1))),
    ("signsgd", {}, (1 + 32) + (37 + 32) + (4100 + 32)),
    ("qsgd", {"bits": 5}, (5 + 32) + (5 * 37 + 32) + (5 * 4100 + 32)),
    ("qsgd", {"bits": 3, "bucket": 16}, (3 + 32) + (3 * 37 + 32 * 3) + (3 * 4100 + 32 * 257)),
    ("statistical", {}, 2 * (1 + 37 + 4100) + 64 * 3),
    ("powersgd", {"rank": 3}, 32 * (1 + 37 + 3 * (41 + 100))),
    ("powersgd", {"rank": 30}, 32 * (1 + 37 + 4100)),
    ("sparseloco", {}, (1 * (2 + 0) + 32) + (1 * (2 + 6) + 32) + (64 + 1) * (2 + 12) + 2 * 32),
    (
        "sparseloco",
        {"chunk": 16, "k": 3},
        (2 + 32) + (3 + 3 + 1) * (2 + 4) + 3 * 32 + (256 * 3 + 1) * 6 + 257 * 32,
    ),
)


@pytest.mark.parametrize(("name", "options", "bits"), BITS)
def test_bits_by_the_formula(name, options, bits):
    shapes = {"a": (), "b": (37,), "c": (41, 1, 100)}
    params = {key: jax.ShapeDtypeStruct(shape, jnp.bfloat16) for key, shape in shapes.items()}
    assert get_compressor(name, **options).bits(params) == bits


def test_bits_of_the_published_settings():
    model = jax.ShapeDtypeStruct((4096, 4096), jnp.float32)
    assert get_compressor("sparseloco").bits(model) == 4096 * (64 * 14 + 32)
    assert get_compressor("powersgd", rank=4).bits(model) == 32 * 4 * 8192


@few
@given(
    x=vectors | with_ties,
    fraction=st.sampled_from([0.01, 0.3, 1.0]),
    chunk=st.sampled_from([0, 1, 16, 39, 64]),
)
def test_topk_is_the_largest_by_sorting_ties_and_chunks_included(x, fraction, chunk):
    expected = [top(block, max(1, math.ceil(fraction * len(block)))) for block in blocks(x, chunk or N)]
    np.testing.assert_array_equal(
        decoded("topk", x, fraction=fraction, chunk=chunk), np.concatenate(expected)
    )


@few
@given(x=vectors | with_ties)
def test_contractions_of_topk_and_the_scaled_sign(x):
    assert squared(x - decoded("topk", x, fraction=0.3)) <= (1 - 12 / N) * squared(x) * (1 + 1e-6)
    sign = squared(x - decoded("signsgd", x))
    share = np.sum(np.abs(x.astype(np.float64))) ** 2 / (N * squared(x)) if np.any(x) else 0.0
    np.testing.assert_allclose(sign, (1 - share) * squared(x), rtol=1e-4, atol=1e-5 * squared(x))


def test_signsgd_is_the_mean_magnitude_with_the_signs():
    x = heavy_tailed(0)
    x[3] = 0.0
    expected = np.mean(np.abs(x)) * np.where(x < 0, -1.0, 1.0)
    np.testing.assert_allclose(decoded("signsgd", x), expected, rtol=1e-6)


def standard_errors_from(x: np.ndarray, draws: np.ndarray) -> float:
    """The largest distance of a mean over draws from x, in standard errors; an error without spread counts as much."""
    spread = np.std(draws, axis=0, ddof=1) / math.sqrt(len(draws))
    return float(np.max(np.abs(np.mean(draws, axis=0) - x) / np.maximum(spread, 1e-6)))


UNBIASED = (
    ("qsgd", {"bits": 2}),
    ("qsgd", {"bits": 3, "norm": "max"}),
    ("qsgd", {"bits": 4, "bucket": 16}),
    ("qsgd", {"bits": 8}),
    ("randk", {"fraction": 0.1}),
    ("randk", {"fraction": 0.3, "chunk": 16}),
)


@pytest.mark.parametrize(("name", "options"), UNBIASED)
def test_qsgd_and_randk_are_unbiased(name, options):
    x = heavy_tailed(1)
    assert standard_errors_from(x, drawn(name, x, **options)) < 4


@pytest.mark.parametrize(
    ("name", "options"), [("randk", {"fraction": 0.1, "unbiased": False}), ("signsgd", {})]
)
def test_a_bias_fails_the_same_check_by_far(name, options):
    x = heavy_tailed(1)
    assert standard_errors_from(x, drawn(name, x, **options)) > 40


@pytest.mark.parametrize("options", [{"bits": 3, "norm": "max"}, {"bits": 4, "bucket": 16}])
def test_rounding_to_the_nearest_level_fails_the_same_check_by_far(monkeypatch, options):
    x = heavy_tailed(1)
    with monkeypatch.context() as patched:  # every number is rounded up from one half on
        patched.setattr(jax.random, "bits", lambda key, shape, dtype: jnp.full(shape, 2**31, dtype))
        compressor = get_compressor("qsgd", **options)
        nearest = compressor.decode(compressor.encode(x, (), jax.random.key(0))[0])
    assert standard_errors_from(x, np.asarray(nearest, np.float64)[None].repeat(9, 0)) > 40


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_qsgds_variance_is_within_lemma_3_1(bits):
    x, s = heavy_tailed(2), 2 ** (bits - 1) - 1
    error = np.sum((drawn("qsgd", x, bits=bits) - x) ** 2, axis=1)
    assert 0 < np.mean(error) <= min(N / s**2, math.sqrt(N) / s) * squared(x)
    error = np.sum((drawn("qsgd", x, bits=bits, norm="max") - x) ** 2, axis=1)
    assert 0 < np.mean(error) <= N / (4 * s**2) * np.max(np.abs(x)) ** 2


@few
@given(x=vectors, norm=st.sampled_from(["l2", "max"]))
def test_qsgd_rounds_to_a_neighbouring_level(x, norm):
    s, largest = 7, np.max(np.abs(x.astype(np.float64)))
    size = math.sqrt(squared(x)) if norm == "l2" else largest
    y = decoded("qsgd", x, bits=4, norm=norm)
    level = np.abs(y) / size * s if size else np.abs(y)
    np.testing.assert_allclose(level, np.round(level), atol=1e-4)
    assert np.all(np.abs(y - x) <= size / s * (1 + 1e-4))
    assert np.all((y == 0) | (np.sign(y) == np.sign(x)))


def test_randk_keeps_k_coordinates_of_every_chunk_and_its_second_moments_are_exact():
    x = heavy_tailed(3)
    draws = drawn("randk", x, fraction=0.3, chunk=16)
    assert {tuple(np.count_nonzero(b) for b in blocks(draw, 16)) for draw in draws[:50]} == {(5, 5, 3)}
    factors = np.repeat([16 / 5, 16 / 5, 8 / 3], [16, 16, 8])
    np.testing.assert_allclose(draws, np.where(draws != 0, x * factors, 0.0), rtol=1e-6)
    kept = np.mean(draws != 0, axis=0)
    expected = np.repeat([5 / 16, 5 / 16, 3 / 8], [16, 16, 8])
    assert np.all(np.abs(kept - expected) < 4 * np.sqrt(expected * (1 - expected) / DRAWS))
    biased = drawn("randk", x, fraction=0.3, unbiased=False)
    for y, wanted in ((drawn("randk", x, fraction=0.3), N / 12 - 1), (biased, 1 - 12 / N)):
        error = np.sum((y - x) ** 2, axis=1)
        assert abs(np.mean(error) - wanted * squared(x)) < 4 * np.std(error) / math.sqrt(DRAWS)


def test_randks_coordinates_are_independent():
    """Two coordinates are kept together as often as without replacement, in a chunk and across chunks."""
    kept = drawn("randk", np.ones(N, np.float32), fraction=0.3, chunk=16) != 0
    for i, j, wanted in ((0, 1, 5 * 4 / (16 * 15)), (3, 15, 5 * 4 / (16 * 15)), (0, 16, (5 / 16) ** 2)):
        together = np.mean(kept[:, i] & kept[:, j])
        assert abs(together - wanted) < 4 * math.sqrt(wanted * (1 - wanted) / DRAWS)


@pytest.mark.parametrize(("name", "options"), [("qsgd", {"bits": 2}), ("randk", {"fraction": 0.3})])
def test_tensors_of_a_tree_draw_independently(name, options):
    """The errors of two equal tensors have no correlation."""
    x = heavy_tailed(1)
    compressor = get_compressor(name, **options)

    def errors(key):
        message, _ = compressor.encode([x, x], (), key)
        return [y - x for y in compressor.decode(message)]

    first, second = jax.jit(jax.vmap(errors))(jax.random.split(jax.random.key(2), DRAWS))
    products = np.sum(np.asarray(first, np.float64) * np.asarray(second), axis=1)
    assert abs(np.mean(products)) < 4 * np.std(products) / math.sqrt(DRAWS)
    assert np.std(products) > 0


def test_statistical_is_maxs_quantiser_of_four_levels():
    """Levels are the means of a normal number within their bins, cuts are half-way between levels."""
    z = np.linspace(-9, 9, 2_000_001)
    density = np.exp(-(z**2) / 2)
    bins = np.digitize(z, [-CUT, 0.0, CUT])
    means = [np.average(z[bins == b], weights=density[bins == b]) for b in range(4)]
    np.testing.assert_allclose(LEVELS, means, atol=1e-3)
    np.testing.assert_allclose(CUT, (LEVELS[2] + LEVELS[3]) / 2, atol=1e-3)
    x = 5.0 + 2.0 * np.asarray(jax.random.normal(jax.random.key(0), (100_000,)))
    error = np.mean((decoded("statistical", x) - x) ** 2) / 4.0
    np.testing.assert_allclose(error, 0.1175, rtol=0.02)


@few
@given(x=vectors)
def test_statistical_by_numpy(x):
    x = x.astype(np.float64)
    z = (x - x.mean()) / (x.std() or 1.0)
    near_a_cut = np.min(np.abs(z[:, None] - [-CUT, 0.0, CUT]), axis=1) < 1e-3
    expected = x.mean() + x.std() * np.asarray(LEVELS)[np.digitize(z, [-CUT, 0.0, CUT])]
    actual = decoded("statistical", x.astype(np.float32))
    scale = np.max(np.abs(x))
    np.testing.assert_allclose(actual[~near_a_cut], expected[~near_a_cut], rtol=1e-4, atol=1e-5 * scale)


def best(matrix: np.ndarray, rank: int) -> np.ndarray:
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ v[:rank]


def repeated(x, rounds: int, **options) -> list[np.ndarray]:
    """PowerSGD on the same x, round after round."""
    compressor, sent, _ = _compiled("powersgd", tuple(options.items()))
    feedback, seen = compressor.init(x), []
    for _ in range(rounds):
        y, feedback = sent(jnp.asarray(x), feedback, jax.random.key(0))
        seen.append(np.asarray(y, np.float64))
    return seen


def test_powersgd_comes_to_the_best_approximation():
    x = heavy_tailed(4, (5, 4, 12))
    matrix = x.reshape(20, 12).astype(np.float64)
    seen = [y.reshape(20, 12) for y in repeated(x, 40, rank=2)]
    errors = [squared(matrix - y) for y in seen]
    assert errors[0] < squared(matrix)
    assert all(after <= before * (1 + 1e-5) for before, after in itertools.pairwise(errors))
    np.testing.assert_allclose(errors[-1], squared(matrix - best(matrix, 2)), rtol=1e-4)
    np.testing.assert_allclose(seen[-1], best(matrix, 2), atol=1e-2 * np.max(np.abs(matrix)))
    assert errors[0] > errors[-1] * 1.01  # without the Q of last time it stays at the first


def test_powersgd_is_a_projection_with_orthonormal_p():
    x = heavy_tailed(5, (20, 12))
    compressor = get_compressor("powersgd", rank=3)
    message, _ = compressor.encode(x, compressor.init(x), jax.random.key(0))
    p, q = (np.asarray(field.values, np.float64) for field in message.tensors[0])
    np.testing.assert_allclose(p.T @ p, np.eye(3), atol=1e-5)
    np.testing.assert_allclose(q, x.T @ p, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(compressor.decode(message), p @ p.T @ x, rtol=1e-4, atol=1e-4)


def test_powersgd_sends_low_ranks_and_what_is_small_as_it_was():
    rng = np.random.default_rng(6)
    low = (rng.normal(size=(20, 2)) @ rng.normal(size=(2, 12))).astype(np.float32)
    np.testing.assert_allclose(repeated(low, 1, rank=2)[0], low, atol=1e-5)
    for shape in ((), (50,), (50, 1), (4, 4), (1, 50)):
        x = heavy_tailed(7, shape)
        np.testing.assert_array_equal(decoded("powersgd", x, rank=2), x)


def test_powersgds_directions_survive_zeros_and_what_is_not_finite():
    compressor, sent, _ = _compiled("powersgd", (("rank", 2),))
    x = jnp.asarray(heavy_tailed(8, (20, 12)))
    start = compressor.init(x)
    _, good = sent(x, start, jax.random.key(0))
    for bad in (jnp.zeros_like(x), x.at[0, 0].set(jnp.nan), x.at[0, 0].set(jnp.inf)):
        _, after = sent(bad, good, jax.random.key(0))
        np.testing.assert_array_equal(after[0], good[0])
    np.testing.assert_allclose(np.linalg.norm(good[0], axis=0), 1.0, rtol=1e-5)


def by_numpy(x: np.ndarray, chunk: int, k: int) -> np.ndarray:
    """SparseLoCo in the plainest way, means rounded to bfloat16."""
    seen = []
    for block in blocks(x, chunk):
        kept = top(block, -(-k * len(block) // chunk))
        chosen = np.argsort(-np.abs(block), kind="stable")[: -(-k * len(block) // chunk)]
        size = np.abs(block[chosen])
        high = size > size.mean()
        for part in (high, ~high):
            if part.any():
                mean = float(jnp.bfloat16(size[part].mean()))
                kept[chosen[part]] = np.where(block[chosen[part]] < 0, -mean, mean)
        seen.append(kept)
    return np.concatenate(seen)


@pytest.mark.parametrize(("chunk", "k"), [(16, 3), (16, 16), (64, 1), (7, 2), (1, 1)])
def test_sparseloco_by_numpy(chunk, k):
    for seed in range(5):
        x = heavy_tailed(seed)
        np.testing.assert_allclose(
            decoded("sparseloco", x, chunk=chunk, k=k), by_numpy(x, chunk, k), rtol=0.01
        )


@few
@given(x=vectors | with_ties)
def test_sparseloco_contracts(x):
    y = decoded("sparseloco", x, chunk=16, k=3)
    assert squared(x - y) <= squared(x)
    assert squared(x - y) < squared(x) or not np.any(x)


def test_sparselocos_published_density():
    x = heavy_tailed(9, (3 * 4096 + 100,))
    y = decoded("sparseloco", x)
    assert [np.count_nonzero(block) for block in blocks(y, 4096)] == [64, 64, 64, 2]
    assert all(len(np.unique(np.abs(block))) == 3 for block in blocks(y, 4096))  # 0, low and high
