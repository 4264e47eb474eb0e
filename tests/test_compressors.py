"""What every registered compressor promises, with and without error feedback; a new one is picked up from the registry.

One with options needs a row in `wire.VARIANTS`. The papers' own results are in test_compressors_exact.py.
"""

import doctest
import functools
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, specs
from wire import EF14, EF21, PLAIN, VARIANTS, label, mixed_tree, pack, quick, unpack

import learned_aggregation
from learned_aggregation import get_compressor
from learned_aggregation.errors import UserError
from learned_aggregation.federated.compressors import COMPRESSORS, accepted_options
from learned_aggregation.federated.compressors.base import fields
from learned_aggregation.types import Compressor

CLIENTS = 3
HERE = "learned_aggregation.federated.compressors"
every = pytest.mark.parametrize(("name", "options"), PLAIN + EF14 + EF21, ids=label)
plain = pytest.mark.parametrize(("name", "options"), PLAIN, ids=label)
one_variant = pytest.mark.parametrize(("name", "options"), EF14, ids=label)


def keys(seed: int, *shape: int) -> jax.Array:
    return jax.random.split(jax.random.key(seed), shape)


def deltas(seed: int) -> dict:
    return mixed_tree(jax.random.key(seed), (CLIENTS,))


class Compiled(NamedTuple):
    """Compiling takes the tests' time: they share it. step: -> (message, feedback, decoded)."""

    compressor: Compressor
    encode: Callable
    decode: Callable
    cohort_step: Callable

    def step(self, delta, feedback, key):
        message, feedback = self.encode(delta, feedback, key)
        return message, feedback, self.decode(message)


@functools.cache
def _compiled(name: str, options: tuple) -> Compiled:
    compressor = get_compressor(name, **dict(options))

    def step(delta, feedback, key):
        message, feedback = compressor.encode(delta, feedback, key)
        return message, feedback, compressor.decode(message)

    return Compiled(compressor, quick(compressor.encode), quick(compressor.decode), quick(jax.vmap(step)))


def compiled(name: str, options: dict) -> Compiled:
    return _compiled(name, tuple(options.items()))


def cohort(name: str, options: dict):
    """(feedback of CLIENTS clients at the start, compiled step of a cohort)."""
    made = compiled(name, options)
    feedback = made.compressor.init(mixed_tree(jax.random.key(0)))
    return jax.tree.map(lambda leaf: jnp.stack([leaf] * CLIENTS), feedback), made.cohort_step


def assert_equal(actual, expected) -> None:
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def of_client(tree, k: int):
    return jax.tree.map(lambda leaf: leaf[k], tree)


@every
def test_keeps_structure_shapes_dtypes_and_feedback_and_moves_something(name, options):
    feedback, step = cohort(name, options)
    for round in range(2):
        delta = deltas(round)
        _, after, decoded = step(delta, feedback, keys(round, CLIENTS))
        assert specs(decoded) == specs(delta)
        assert specs(after) == specs(feedback)
        assert all(leaf.size == 0 or np.any(leaf[0]) for leaf in jax.tree.leaves(decoded))
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((after, decoded)))
        feedback = after
    assert step._cache_size() == 1


@every
def test_zero_deltas_decode_to_zeros(name, options):
    feedback, step = cohort(name, options)
    zeros = jax.tree.map(jnp.zeros_like, deltas(0))
    for round in range(2):
        _, feedback, decoded = step(zeros, feedback, keys(round, CLIENTS))
        assert_equal(decoded, zeros)
    _, _, decoded = step(deltas(1), feedback, keys(2, CLIENTS))  # and the client sends again afterwards
    assert all(leaf.size == 0 or np.any(leaf[0]) for leaf in jax.tree.leaves(decoded))


@every
@pytest.mark.parametrize("exponent", [100, -100])  # 1e30 and 1e-30
def test_scaling_a_delta_scales_what_is_decoded(name, options, exponent):
    """So nothing overflows on the way. Bit for bit: a power of two rounds nothing."""
    feedback, step = cohort(name, options)
    scaled = jax.tree.map(lambda leaf: leaf * jnp.asarray(2.0**exponent, leaf.dtype), deltas(0))
    _, _, decoded = step(deltas(0), feedback, keys(0, CLIENTS))
    _, _, large = step(scaled, feedback, keys(0, CLIENTS))
    assert_equal(jax.tree.map(lambda leaf: leaf.astype(jnp.float32) * 2.0**-exponent, large), decoded)


@every
def test_what_is_not_finite_stays_with_its_client(name, options):
    feedback, step = cohort(name, options)
    good, bad = deltas(0), jax.tree.map(lambda leaf: leaf.at[0].set(jnp.nan), deltas(0))
    bad["vector"] = good["vector"].at[0, 3].set(jnp.inf)
    _, after, decoded = step(good, feedback, keys(0, CLIENTS))
    _, bad_after, bad_decoded = step(bad, feedback, keys(0, CLIENTS))
    for k in (1, 2):
        assert_equal(of_client((bad_after, bad_decoded), k), of_client((after, decoded), k))
    if name != "randk":  # which may leave out what is not finite
        assert all(not np.all(np.isfinite(leaf[0])) for leaf in jax.tree.leaves(bad_decoded) if leaf.size)


@every
def test_clients_side_by_side_equal_clients_one_by_one(name, options):
    feedback, step = cohort(name, options)
    message, after, decoded = step(deltas(0), feedback, keys(0, CLIENTS))
    arguments = of_client((deltas(0), feedback, keys(0, CLIENTS)), 1)
    alone, alone_after, alone_decoded = compiled(name, options).step(*arguments)
    assert jax.tree.structure(alone) == jax.tree.structure(message)
    assert_close((alone_after, alone_decoded), of_client((after, decoded), 1), rtol=2e-5, atol=2e-6)


TREES = {
    "mixed": of_client(deltas(0), 1),
    "a bare scalar": jnp.float32(-2.5),
    "nothing": {"empty": jnp.zeros((0, 4)), "none": None},
    "longer than a chunk, half precision": (
        jax.random.normal(jax.random.key(6), (4100,)),
        jax.random.normal(jax.random.key(7), (12, 11)).astype(jnp.float16),
    ),
}


@pytest.mark.parametrize(
    ("tree", "name", "options"),
    [(tree, *case) for tree in TREES for case in PLAIN] + [("mixed", *case) for case in EF14 + EF21],
    ids=label,
)
def test_bits_are_those_of_the_packed_message_which_decodes_alike(tree, name, options):
    delta = TREES[tree]
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), delta)
    compressor, encode, decode, _ = compiled(name, options)
    feedback = compressor.init(shapes)
    for round in range(2):  # so that there is something to remember
        message, feedback = encode(delta, feedback, jax.random.key(round))
    content, length = pack(message)
    assert compressor.bits(delta) == compressor.bits(shapes) == length
    assert isinstance(compressor.bits(shapes), float)
    assert len(content) == -(-length // 8)
    unpacked = unpack(content, message)
    assert_equal(unpacked, message)
    assert_equal(decode(unpacked), decode(message))
    assert specs(decode(message)) == specs(delta)


@every
def test_codes_are_small_integers(name, options):
    compressor = get_compressor(name, **options)
    message, _ = jax.eval_shape(
        compressor.encode, TREES["mixed"], compressor.init(TREES["mixed"]), jax.random.key(0)
    )
    assert fields(message)
    for field in fields(message):
        wanted = {1: "uint8", 2: "uint8", 4: "uint8", 8: "uint8", 16: "uint16"}.get(field.width)
        if field.width == 32:
            wanted = "uint32" if field.values.shape == () and name == "randk" else "float32"
        assert field.values.dtype in ((wanted,) if wanted else ("int32",)) or field.values.dtype == "int32"


@one_variant
def test_scan_over_clients_and_two_maps_agree_with_one_map(name, options):
    compressor = get_compressor(name, **options)
    delta = jax.random.normal(jax.random.key(0), (2, CLIENTS, 9, 8))
    start = compressor.init(delta[0, 0])
    key = keys(1, 2, CLIENTS)

    def one(delta, key):
        message, feedback = compressor.encode(delta, start, key)
        return compressor.decode(message), feedback

    mapped = quick(jax.vmap(jax.vmap(one)))(delta, key)
    scan = quick(lambda delta, key: jax.lax.scan(lambda _, x: ((), jax.vmap(one)(*x)), (), (delta, key))[1])
    assert_close(scan(delta, key), mapped)


def operations(jaxpr) -> int:
    """Equations of a program, those inside loops and calls included."""
    inner = [
        x for e in jaxpr.eqns for v in e.params.values() for x in (v if isinstance(v, (list, tuple)) else [v])
    ]
    return len(jaxpr.eqns) + sum(operations(x.jaxpr) for x in inner if hasattr(x, "jaxpr"))


@plain
def test_the_program_does_not_grow_with_the_tensor(name, options):
    compressor = get_compressor(name, **options)

    def program(rows: int):
        delta = jax.ShapeDtypeStruct(
            (rows, 101), jnp.float32
        )  # a last chunk that is shorter, for every chunk
        key = jax.eval_shape(lambda: jax.random.key(0))

        def both(delta, feedback, key):
            message, feedback = compressor.encode(delta, feedback, key)
            return compressor.decode(message), feedback

        return jax.make_jaxpr(both)(delta, jax.eval_shape(compressor.init, delta), key)

    small, large = program(50), program(5_000)
    assert operations(small.jaxpr) == operations(large.jaxpr)
    assert sum(np.size(const) for const in large.consts) < 100


@one_variant
def test_with_64_bits_the_same_goes_over_the_wire(name, options):
    delta = jax.random.normal(jax.random.key(3), (9, 8))

    made = compiled(name, options)
    expected = made.step(delta, made.compressor.init(delta), jax.random.key(0))
    with jax.enable_x64(True):
        actual = made.step(delta, made.compressor.init(delta), jax.random.key(0))
    assert specs(actual) == specs(expected)
    assert_close(actual[1:], expected[1:], rtol=1e-4, atol=1e-5)


def test_none_is_the_identity_bit_for_bit():
    special = np.array([-0.0, np.nan, np.inf, -np.inf, 1e-42, 3.4e38], np.float32)
    delta = {"mixed": mixed_tree(jax.random.key(0)), "special": jnp.asarray(special)}
    compressor = get_compressor("none")
    message, _ = compressor.encode(delta, compressor.init(delta), jax.random.key(0))
    for actual, expected in zip(
        jax.tree.leaves(compressor.decode(message)), jax.tree.leaves(delta), strict=True
    ):
        assert np.asarray(actual).tobytes() == np.asarray(expected).tobytes()
    assert compressor.bits(delta) == 32 * sum(leaf.size for leaf in jax.tree.leaves(delta))


@plain
def test_only_what_is_random_depends_on_the_key(name, options):
    made = compiled(name, options)
    delta = TREES["mixed"]
    feedback = made.compressor.init(delta)
    same, again, other = (made.step(delta, feedback, jax.random.key(seed))[2] for seed in (0, 0, 1))
    assert_equal(same, again)
    differs = not np.array_equal(same["kernel"], other["kernel"])
    assert differs == (name in ("randk", "qsgd"))


def test_a_leaf_that_is_no_float_is_an_error():
    for name in COMPRESSORS:
        compressor = get_compressor(name, **VARIANTS.get(name, ({},))[0])
        delta = {"w": jnp.ones(3), "count": jnp.arange(4)}
        with pytest.raises(UserError, match=r"compressor: expected float arrays, got int32\[4\]"):
            compressor.encode(delta, (), jax.random.key(0))


@pytest.mark.parametrize("name", COMPRESSORS)
def test_every_compressor_has_defaults(name):
    delta = {"w": jnp.linspace(-1.0, 1.0, 200).reshape(20, 10)}
    compressor = get_compressor(name)
    message, _ = compressor.encode(delta, compressor.init(delta), jax.random.key(0))
    assert jax.tree.map(jnp.shape, compressor.decode(message)) == {"w": (20, 10)}


def bare(*, step: float) -> None:
    """A compressor whose option has no default."""


def test_an_option_without_a_default_must_be_given(monkeypatch):
    monkeypatch.setitem(COMPRESSORS._entries, "bare", f"{__name__}:bare")
    with pytest.raises(UserError, match=r"bare: expected a value for step, got none. Pass step="):
        get_compressor("bare")


BAD = (
    ("topkk", {}, r"compressor: expected one of .* got 'topkk'. Did you mean 'topk'\?"),
    ("topk", {"fractoin": 0.1}, r"topk: expected options among .* got 'fractoin'. Did you mean 'fraction'\?"),
    ("none", {"feedback_deca": 0.1}, r"got 'feedback_deca'. Did you mean 'feedback_decay'\?"),
    ("topk", {"fraction": 0.0}, r"topk: expected fraction above 0 and at most 1, got 0.0"),
    ("topk", {"fraction": float("nan")}, r"topk: expected fraction above 0 and at most 1, got nan"),
    ("randk", {"fraction": 1.5}, r"randk: expected fraction above 0 and at most 1, got 1.5"),
    ("randk", {"fraction": "0.1"}, r"randk: expected fraction above 0 and at most 1, got '0.1'"),
    (
        "topk",
        {"fraction": 0.1, "chunk": -1},
        r"topk: expected chunk to be a whole number of at least 0, got -1",
    ),
    ("randk", {"fraction": 0.1, "chunk": 2.0}, r"randk: expected chunk to be a whole number .* got 2.0"),
    ("randk", {"fraction": 0.1, "unbiased": 1}, r"randk: expected unbiased to be True or False, got 1"),
    ("qsgd", {"bits": 1}, r"qsgd: expected bits to be a whole number in 2 to 8, got 1"),
    ("qsgd", {"bits": 9}, r"qsgd: expected bits to be a whole number in 2 to 8, got 9"),
    ("qsgd", {"bits": 4, "norm": "l1"}, r"qsgd: expected norm to be 'l2' or 'max', got 'l1'"),
    (
        "qsgd",
        {"bits": 4, "bucket": True},
        r"qsgd: expected bucket to be a whole number of at least 0, got True",
    ),
    ("powersgd", {"rank": 0}, r"powersgd: expected rank to be a whole number of at least 1, got 0"),
    ("sparseloco", {"chunk": 0}, r"sparseloco: expected chunk to be a whole number of at least 1, got 0"),
    ("sparseloco", {"chunk": 8, "k": 9}, r"sparseloco: expected k to be a whole number in 1 to 8, got 9"),
    ("sparseloco", {"k": 0}, r"sparseloco: expected k to be a whole number in 1 to 4096, got 0"),
    (
        "none",
        {"error_feedback": "ef"},
        r"error_feedback: expected one of .* got 'ef'. Did you mean 'ef",
    ),
    (
        "none",
        {"error_feedback": "ef14", "feedback_decay": 1.1},
        r"ef14: expected feedback_decay in \[0, 1\], got 1.1",
    ),
    ("none", {"error_feedback": "ef21", "feedback_decay": 0.9}, r"none: expected feedback_decay only with"),
    ("none", {"feedback_decay": 0}, r"none: expected feedback_decay only with .* got 0 with 'none'"),
)


@pytest.mark.parametrize(("name", "options", "message"), BAD, ids=label)
def test_bad_options_are_errors(name, options, message):
    with pytest.raises(UserError, match=message):
        get_compressor(name, **options)


def test_a_fraction_sets_shapes_and_cannot_be_traced():
    with pytest.raises(UserError, match="topk: expected fraction above 0"):
        jax.jit(lambda fraction: get_compressor("topk", fraction=fraction).bits(jnp.ones(9)))(0.5)


def test_listing_names_does_not_load_jax():
    program = f"import sys, {HERE} as c; print(*c.COMPRESSORS, *c.ERROR_FEEDBACK, 'jax' in sys.modules)"
    listed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert listed.stdout.split()[-4:] == ["none", "ef14", "ef21", "False"]
    assert accepted_options("topk") == ["fraction", "chunk"]
    assert learned_aggregation.get_compressor is get_compressor


DOCUMENTED = {name: COMPRESSORS[name] for name in COMPRESSORS}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_docstrings_say_formula_bits_example_and_options(name):
    text = inspect.getdoc(DOCUMENTED[name]) or ""
    assert "C(" in text.splitlines()[0] or name in ("powersgd", "sparseloco")
    assert "Bits:" in text
    assert ">>> compressor" in text
    assert name == "none" or "References:" in text
    assert all(f"{option}: " in text for option in accepted_options(name))


@pytest.mark.parametrize("module", ["", ".error_feedback", *(f".{name}" for name in COMPRESSORS)])
def test_examples_in_docstrings_run(module):
    result = doctest.testmod(importlib.import_module(HERE + module))
    assert result.attempted > 0
    assert result.failed == 0


def test_the_page_lists_every_compressor_and_its_example_runs():
    page = (Path(__file__).parent.parent / "docs" / "compression.md").read_text()
    for name in COMPRESSORS:
        row = re.search(rf"^\| `{name}` \|.*$", page, re.MULTILINE)
        assert row, name
        assert all(f"`{option}`" in row[0] for option in accepted_options(name)), name
    result = doctest.testfile(
        str(Path(__file__).parent.parent / "docs" / "compression.md"), module_relative=False
    )
    assert result.attempted > 0
    assert result.failed == 0
