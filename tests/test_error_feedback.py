"""Error feedback: what its sums add up to, what it converges to, and what it takes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close
from wire import PLAIN, VARIANTS, label, mixed_tree, quick

from learned_aggregation import get_compressor

ROUNDS = 6


def as_numpy(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def plus(a, b, factor: float = 1.0):
    return jax.tree.map(lambda x, y: x + factor * y, a, b)


def rounds(compressor, deltas):
    """(what was decoded, leaves [rounds, ...], the last feedback) of one client."""
    start = compressor.init(jax.tree.map(lambda leaf: leaf[0], deltas))

    def one(feedback, at):
        delta, key = at
        message, feedback = compressor.encode(delta, feedback, key)
        return feedback, compressor.decode(message)

    keys = jax.random.split(jax.random.key(1), jax.tree.leaves(deltas)[0].shape[0])
    feedback, decoded = jax.lax.scan(one, start, (deltas, keys))
    return decoded, feedback


@pytest.mark.parametrize(("name", "options"), PLAIN, ids=label)
def test_ef14_loses_nothing(name, options):
    """sum decay^(T-t) decoded_t + e_T = sum decay^(T-t) delta_t, in bfloat16 too, whatever the compressor."""
    deltas = mixed_tree(jax.random.key(0), (ROUNDS,))
    deltas["half"] = jax.random.normal(jax.random.key(1), (ROUNDS, 9)).astype(jnp.bfloat16)

    @quick
    def run(decay):
        return rounds(get_compressor(name, error_feedback="ef14", feedback_decay=decay, **options), deltas)

    for decay in (1.0, 0.7):
        decoded, feedback = run(decay)
        weights = decay ** np.arange(ROUNDS)[::-1]
        sent, wanted = (
            jax.tree.map(lambda leaf, w=weights: np.tensordot(w, leaf, 1), as_numpy(tree))
            for tree in (decoded, deltas)
        )
        largest = max(np.max(np.abs(leaf), initial=1.0) for leaf in jax.tree.leaves(as_numpy(decoded)))
        assert_close(plus(sent, as_numpy(feedback.memory)), wanted, atol=1e-5 * largest)


def test_ef14_without_loss_remembers_nothing():
    deltas = mixed_tree(jax.random.key(0), (ROUNDS,))
    decoded, feedback = rounds(get_compressor("none", error_feedback="ef14"), deltas)
    jax.tree.map(np.testing.assert_array_equal, decoded, deltas)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(feedback.memory))


def test_a_decay_of_zero_forgets_and_a_traced_decay_is_the_decay():
    deltas = jax.random.normal(jax.random.key(0), (ROUNDS, 37))

    def run(decay):
        compressor = get_compressor("topk", fraction=0.1, error_feedback="ef14", feedback_decay=decay)
        return rounds(compressor, deltas)

    assert_close(jax.jit(run)(0.7), run(0.7))
    decoded, feedback = run(0.0)
    np.testing.assert_array_equal(feedback.memory, deltas[-1] - decoded[-1])
    assert np.max(np.abs(run(1.0)[1].memory - feedback.memory)) > 0.5


def test_ef14_sends_everything_in_the_end_and_the_compressor_alone_does_not():
    delta = jnp.stack([jax.random.normal(jax.random.key(2), (20,))] * 200)
    error = {}
    for feedback in ("none", "ef14"):
        compressor = get_compressor("topk", fraction=0.1, error_feedback=feedback)
        error[feedback] = np.max(np.abs(np.mean(rounds(compressor, delta)[0], axis=0) - delta[0]))
    assert error["ef14"] < 0.1
    assert error["none"] > 0.5


@pytest.mark.parametrize("k", [1, 5])
def test_ef21_comes_to_a_constant_delta_as_fast_as_the_compressor_contracts(k):
    x = np.asarray(jax.random.normal(jax.random.key(3), (20,)))
    compressor = get_compressor("topk", fraction=k / 20, error_feedback="ef21")
    decoded, feedback = rounds(compressor, jnp.stack([jnp.asarray(x)] * 12))
    errors = np.sum((np.asarray(decoded) - x) ** 2, axis=1)
    bound = (1 - k / 20) ** np.arange(1, 13) * np.sum(x**2)
    assert np.all(errors <= bound + 1e-9)
    assert errors[0] > 0.1
    if k == 5:  # four rounds send every number once
        np.testing.assert_allclose(decoded[3], x, atol=1e-6)
    np.testing.assert_array_equal(feedback.memory, decoded[-1])


@pytest.mark.parametrize("name", ["signsgd", "powersgd", "sparseloco"])
def test_ef21_converges_around_every_contraction(name):
    options = {"sparseloco": {"chunk": 16, "k": 3}}.get(name, {})
    x = jax.random.normal(jax.random.key(4), (12, 11))
    decoded, _ = rounds(get_compressor(name, error_feedback="ef21", **options), jnp.stack([x] * 150))
    errors = np.sum((np.asarray(decoded) - np.asarray(x)) ** 2, axis=(1, 2))
    assert errors[-1] < 1e-2 * errors[0]


@pytest.mark.parametrize(("name", "options"), PLAIN, ids=label)
def test_ef21_is_what_the_server_adds_up(name, options):
    """decoded_t = decoded_(t-1) + decode(c_t), so the server needs c_t alone; it takes the bits of the compressor."""
    bare = get_compressor(name, **options)
    compressor = get_compressor(name, error_feedback="ef21", **options)
    deltas = mixed_tree(jax.random.key(0), (2,))
    first, second = (jax.tree.map(lambda leaf, t=t: leaf[t], deltas) for t in (0, 1))
    encode, decode, bare_decode = quick(compressor.encode), quick(compressor.decode), quick(bare.decode)
    message, feedback = encode(first, compressor.init(first), jax.random.key(0))
    assert_close(as_numpy(decode(message)), as_numpy(bare_decode(message.message)))
    message, feedback = encode(second, feedback, jax.random.key(1))
    server = plus(as_numpy(message.reference), as_numpy(bare_decode(message.message)))
    assert_close(server, as_numpy(feedback.memory))
    assert_close(as_numpy(decode(message)), server, rtol=5e-3, atol=1e-5)  # in bfloat16 where the delta is
    assert compressor.bits(first) == bare.bits(first)


def test_feedback_starts_from_shapes_and_holds_the_compressors():
    params = mixed_tree(jax.random.key(0))
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), params)
    for name in ("powersgd", "topk"):
        options = VARIANTS[name][0]
        bare = get_compressor(name, **options)
        for feedback in ("ef14", "ef21"):
            start = get_compressor(name, error_feedback=feedback, **options).init(shapes)
            assert jax.tree.structure(start.inner) == jax.tree.structure(bare.init(shapes))
            assert jax.tree.structure(start.memory) == jax.tree.structure(params)
            assert {leaf.dtype for leaf in jax.tree.leaves(start.memory)} == {np.dtype(np.float32)}
            assert not any(np.any(leaf) for leaf in jax.tree.leaves(start.memory))
    assert get_compressor("topk", fraction=0.1).init(params) == ()


@pytest.mark.parametrize("feedback", ["none", "ef14", "ef21"])
def test_powersgds_directions_move_on_under_every_feedback(feedback):
    x = jax.random.normal(jax.random.key(5), (20, 12))
    bare = get_compressor("powersgd")
    start = bare.init(x)
    _, wanted = bare.encode(x, start, jax.random.key(0))
    compressor = get_compressor("powersgd", error_feedback=feedback)
    _, after = compressor.encode(x, compressor.init(x), jax.random.key(0))
    np.testing.assert_array_equal((after if feedback == "none" else after.inner)[0], wanted[0])
    assert not np.allclose(wanted[0], start[0])
