"""What the compressors share: messages whose fields know their width on the wire, one message for a tree."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_aggregation.errors import UserError
from learned_aggregation.types import Compressor, Feedback, Key, Params

Shape = tuple[int, ...]
SEED_BITS = 32


@dataclass(frozen=True)
class Field:
    """Numbers that cross the wire side by side, `width` bits for each of them.

    values: float32 where width is 32 and unsigned codes below 2**width in an integer array otherwise.
    """

    values: Array
    width: int


class Layout(NamedTuple):
    """What the receiver knows of a delta before any message: its structure, shapes and dtypes."""

    structure: Any
    shapes: tuple[Shape, ...]
    dtypes: tuple[Any, ...]


@dataclass(frozen=True)
class Message:
    """One client's delta on its way.

    tensors: a pytree of `Field` for each tensor that has numbers.
    seed: 32 bits from which both sides draw the same, or None.
    layout: static, so that it takes no bits and stays outside vmap.
    """

    tensors: tuple[Any, ...]
    seed: Field | None
    layout: Layout


jax.tree_util.register_dataclass(Field, data_fields=["values"], meta_fields=["width"])
jax.tree_util.register_dataclass(Message, data_fields=["tensors", "seed"], meta_fields=["layout"])


def fields(message: Any) -> list[Field]:
    """The fields of a message in their order on the wire; what is no field is known to both sides."""
    found = jax.tree.leaves(message, is_leaf=lambda node: isinstance(node, Field))
    return [node for node in found if isinstance(node, Field)]


def message_bits(message: Any) -> float:
    """The bits that ONE client's message takes, from its fields or their shapes."""
    return float(sum(math.prod(field.values.shape) * field.width for field in fields(message)))


class TensorCode(NamedTuple):
    """How one tensor crosses: float32, of any rank, never empty.

    encode: (x, state, noise) -> (a pytree of `Field`, state).
    decode: (the pytree, shape, noise) -> x as the receiver sees it, float32.
    init: shape -> state; None for a code without state, whose `encode` gets and returns ().
    random: who draws noise, uint32 [numbers of the tensor]: nobody (it is None), the sender, or both from a seed
      of 32 bits in the message, so that the receiver's noise is the sender's.
    """

    encode: Callable[[Float[Array, "..."], Any, Any], tuple[Any, Any]]
    decode: Callable[[Any, Shape, Any], Float[Array, "..."]]
    init: Callable[[Shape], Any] | None = None
    random: Literal["nobody", "sender", "both"] = "nobody"


def per_tensor(code: TensorCode) -> Compressor:
    """The compressor that sends each tensor of a tree by `code`, in float32; empty tensors take no bits."""

    def init(params: Params) -> Feedback:
        if code.init is None:
            return ()
        return tuple(map(code.init, _full(_layout(shapes_of(params)))))

    def encode(delta: Params, feedback: Feedback, key: Key) -> tuple[Message, Feedback]:
        layout = _layout(shapes_of(delta))
        full = [jnp.asarray(leaf, jnp.float32) for leaf in jax.tree.leaves(delta) if jnp.size(leaf)]
        seed = Field(jax.random.bits(key, (), jnp.uint32), SEED_BITS) if code.random == "both" else None
        noise = _noise(_shared_key(seed) if seed else key, layout, code.random != "nobody")
        states = feedback if code.init else ((),) * len(full)
        sent = list(map(code.encode, full, states, noise))
        message = Message(tuple(tensor for tensor, _ in sent), seed, layout)
        return message, tuple(state for _, state in sent) if code.init else ()

    def decode(message: Message) -> Params:
        layout, seed = message.layout, message.seed
        noise = _noise(_shared_key(seed) if seed else None, layout, seed is not None)
        decoded = map(code.decode, message.tensors, _full(layout), noise)
        leaves = [
            (next(decoded) if math.prod(shape) else jnp.zeros(shape)).astype(dtype)
            for shape, dtype in zip(layout.shapes, layout.dtypes, strict=True)
        ]
        return jax.tree.unflatten(layout.structure, leaves)

    def bits(params: Params) -> float:
        shapes = shapes_of(params)
        key = jax.eval_shape(lambda: jax.random.key(0))
        message, _ = jax.eval_shape(encode, shapes, jax.eval_shape(init, shapes), key)
        return message_bits(message)

    return Compressor(init, encode, decode, bits)


def shapes_of(params: Params) -> Params:
    """Shapes and dtypes of a tree of arrays, tracers or shapes."""
    return jax.eval_shape(lambda tree: tree, params)


def _layout(shapes: Params) -> Layout:
    leaves, structure = jax.tree.flatten(shapes)
    for leaf in leaves:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise UserError(
                f"compressor: expected float arrays, got {leaf.dtype.name}{list(leaf.shape)}. "
                "Keep what is no float out of the delta."
            )
    return Layout(structure, tuple(leaf.shape for leaf in leaves), tuple(leaf.dtype for leaf in leaves))


def _full(layout: Layout) -> list[Shape]:
    """The shapes of the tensors that have numbers."""
    return [shape for shape in layout.shapes if math.prod(shape)]


def _noise(key: Any, layout: Layout, drawn: bool) -> list[Any]:
    """Random bits for each tensor that has numbers, uint32 [n], or None for each."""
    sizes = [math.prod(shape) for shape in _full(layout)]
    if not drawn:
        return [None] * len(sizes)
    # Drawn at once, on one axis: XLA takes about half a second to compile a draw, so one for each tensor would make
    # the compilation of a round minutes long.
    bits = jax.random.bits(key, (sum(sizes),), jnp.uint32)
    ends = list(itertools.accumulate(sizes))
    return [bits[end - size : end] for size, end in zip(sizes, ends, strict=True)]


def _shared_key(seed: Field) -> Key:
    # The kind of key is part of the format: a receiver with another default must draw the same.
    return jax.random.key(seed.values, impl="threefry2x32")


def peak(x: Float[Array, "..."], axis: int | None = None) -> Float[Array, "..."]:
    """The largest magnitude, axes kept, with 1 in the place of 0: what to divide by before squares or sums.

    Sums of numbers of magnitude 1e30 fit a float32 and their squares don't.
    """
    largest = jnp.max(jnp.abs(x), axis=axis, keepdims=True)
    return jnp.where(largest == 0.0, 1.0, largest)


def check_whole(where: str, option: str, value: Any, low: int, high: int | None = None) -> None:
    """Raises a UserError unless value is a whole number in [low, high]."""
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= (high or value):
        return
    wanted = f"of at least {low}" if high is None else f"in {low} to {high}"
    raise UserError(f"{where}: expected {option} to be a whole number {wanted}, got {value!r}. Choose one.")


def check_fraction(where: str, option: str, value: Any) -> None:
    """Raises a UserError unless value is a plain number in (0, 1]: it sets shapes, so it cannot be traced."""
    if not isinstance(value, (int, float)) or not 0.0 < value <= 1.0:
        raise UserError(
            f"{where}: expected {option} above 0 and at most 1, got {value!r}. Choose one in the range."
        )


def check_choice(where: str, option: str, value: Any, choices: tuple[Any, ...]) -> None:
    """Raises a UserError unless value is one of the choices."""
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        listed = " or ".join(repr(choice) for choice in choices)
        raise UserError(f"{where}: expected {option} to be {listed}, got {value!r}. Choose one of them.")
