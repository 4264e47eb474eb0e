"""A message bit by bit, as it crosses a wire, and the compressors that the tests go through."""

import jax
import jax.numpy as jnp
import numpy as np

from learned_aggregation.federated.compressors import COMPRESSORS
from learned_aggregation.federated.compressors.base import Field, fields

VARIANTS = {
    "topk": ({"fraction": 0.1}, {"fraction": 0.3, "chunk": 16}),
    "randk": ({"fraction": 0.1}, {"fraction": 0.3, "chunk": 16}, {"fraction": 0.3, "unbiased": False}),
    "qsgd": ({"bits": 2}, {"bits": 8, "norm": "max"}, {"bits": 4, "bucket": 16}),
    "powersgd": ({}, {"rank": 1}),
    "sparseloco": ({}, {"chunk": 16, "k": 3}),
}
"""Options to make a compressor with; a new one needs a row only if it has options."""
PLAIN = [(name, options) for name in COMPRESSORS for options in VARIANTS.get(name, ({},))]
EF14 = [(name, {**VARIANTS.get(name, ({},))[0], "error_feedback": "ef14"}) for name in COMPRESSORS]
EF21 = [
    ("topk", {"fraction": 0.3, "error_feedback": "ef21"}),
    ("randk", {"fraction": 0.3, "error_feedback": "ef21"}),  # a seed
    ("powersgd", {"error_feedback": "ef21"}),  # feedback inside feedback
]


def label(value) -> str:
    """A test's name from a compressor's name or its options."""
    return value if isinstance(value, str) else ",".join(f"{k}={v}" for k, v in value.items()) or "-"


def quick(function):
    """Compiled without LLVM's optimisations, which take half of the time and nothing here needs."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


def mixed_tree(key: jax.Array, leading: tuple[int, ...] = ()) -> dict:
    """Low and high ranks, an empty tensor, None, bfloat16; a kernel of many chunks of 16 and a rest."""
    shapes = {"vector": (37,), "kernel": (3, 2, 5, 23), "empty": (3, 0)}
    keys = dict(zip(shapes, jax.random.split(key, len(shapes)), strict=True))
    tree = {name: jax.random.normal(keys[name], leading + shape) for name, shape in shapes.items()}
    scalar = jax.random.normal(key, leading).astype(jnp.bfloat16)
    return {**tree, "nested": [None, (scalar, None)]}


def pack(message) -> tuple[bytes, int]:
    """(the bytes of a message, its bits): every field's codes one after another, the lowest bit first."""
    stream = [np.zeros(0, np.uint8)]
    for field in fields(message):
        codes = _codes(np.asarray(field.values))
        assert not np.any(codes >> np.uint64(field.width)), "a code is wider than its field"
        shifts = np.arange(field.width, dtype=np.uint64)
        stream.append((codes[:, None] >> shifts & np.uint64(1)).astype(np.uint8).reshape(-1))
    bits = np.concatenate(stream)
    return np.packbits(bits).tobytes(), bits.size


def unpack(content: bytes, like):
    """The message that `pack` made the bytes of, from the shapes and widths alone of a message `like` it."""
    bits = np.unpackbits(np.frombuffer(content, np.uint8)).astype(np.uint64)
    start = 0

    def read(node):
        nonlocal start
        if not isinstance(node, Field):  # both sides have it
            return node
        count = node.values.size
        taken = bits[start : start + count * node.width].reshape(count, node.width)
        start += count * node.width
        codes = np.sum(taken << np.arange(node.width, dtype=np.uint64), axis=1, dtype=np.uint64)
        if node.values.dtype == jnp.float32:
            values = codes.astype(np.uint32).view(np.float32)
        else:
            values = codes.astype(node.values.dtype)
        return Field(jnp.asarray(values.reshape(node.values.shape)), node.width)

    message = jax.tree.map(read, like, is_leaf=lambda node: isinstance(node, Field))
    assert 0 <= bits.size - start < 8, "bytes are left"
    return message


def _codes(values: np.ndarray) -> np.ndarray:
    flat = values.reshape(-1)
    if flat.dtype == np.float32:
        return flat.view(np.uint32).astype(np.uint64)
    assert np.issubdtype(flat.dtype, np.integer)
    assert flat.size == 0 or flat.min() >= 0
    return flat.astype(np.uint64)
