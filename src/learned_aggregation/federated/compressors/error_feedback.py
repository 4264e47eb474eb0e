"""What a client remembers of what it did not send, around any compressor."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from learned_aggregation.errors import UserError
from learned_aggregation.types import Compressor, Feedback, Key, Message, Params


class Remembered(NamedTuple):
    """The compressor's feedback and the wrapper's memory, float32, shaped like params."""

    inner: Feedback
    memory: Params


class Correction(NamedTuple):
    """EF21's message: what crosses, and what both sides have already, which takes no bits."""

    message: Message
    reference: Params


def no_feedback(compressor: Compressor) -> Compressor:
    """The compressor as it is."""
    return compressor


def ef14(compressor: Compressor, *, feedback_decay: float = 1.0) -> Compressor:
    """What was not sent is added to the next delta.

    x = delta + decay*e;  message = C(x);  e <- x - decode(message). e starts at 0.

    With decay 1 nothing is lost: the sum of what was decoded and the last e is the sum of the deltas; with a decay it
    is so for sums weighted by decay^(rounds that follow). C should contract, |x - C(x)| < |x|: around an
    unbiased compressor with a variance above |x|^2, such as randk, e grows without end.

    Args:
      feedback_decay: in [0, 1]; may be traced.
    Raises:
      UserError: feedback_decay outside [0, 1].
    Example:
      >>> from learned_aggregation.federated.compressors.topk import topk
      >>> compressor, delta = ef14(topk(fraction=0.5)), jnp.array([2.0, 1.5])
      >>> feedback = compressor.init(delta)
      >>> for round in range(2):
      ...     message, feedback = compressor.encode(delta, feedback, jax.random.key(round))
      ...     compressor.decode(message).tolist()
      [2.0, 0.0]
      [0.0, 3.0]

    References:
      Seide et al., "1-Bit Stochastic Gradient Descent", Interspeech 2014.
      Karimireddy et al., "Error Feedback Fixes SignSGD", ICML 2019, arXiv:1901.09847, Algorithm 2.
    """
    if isinstance(feedback_decay, (int, float)) and not 0.0 <= feedback_decay <= 1.0:
        raise UserError(
            f"ef14: expected feedback_decay in [0, 1], got {feedback_decay!r}. Choose one in the range."
        )

    def encode(delta: Params, feedback: Remembered, key: Key) -> tuple[Message, Remembered]:
        decay = jnp.asarray(feedback_decay, jnp.float32)
        x = jax.tree.map(lambda d, e: d + decay * e, _float32(delta), feedback.memory)
        message, inner = compressor.encode(_like(x, delta), feedback.inner, key)
        # From x as it was before the cast to the delta's dtype: its rounding is remembered too.
        memory = jax.tree.map(jnp.subtract, x, _float32(compressor.decode(message)))
        return message, Remembered(inner, memory)

    return Compressor(_init(compressor), encode, compressor.decode, compressor.bits)


def ef21(compressor: Compressor) -> Compressor:
    """What is sent is the difference from what the server has already.

    c = C(delta - g);  g <- g + decode(c) on both sides;  decode(message) = g. g starts at 0.

    Deltas that stay the same are reached geometrically, at the rate of C's contraction. The server keeps a g for each
    client; here the message carries the g of before, which costs no bits.

    Example:
      >>> from learned_aggregation.federated.compressors.topk import topk
      >>> compressor, delta = ef21(topk(fraction=0.5)), jnp.array([2.0, 1.5])
      >>> feedback = compressor.init(delta)
      >>> for round in range(2):
      ...     message, feedback = compressor.encode(delta, feedback, jax.random.key(round))
      ...     compressor.decode(message).tolist()
      [2.0, 0.0]
      [2.0, 1.5]

    References:
      Richtarik et al., "EF21", NeurIPS 2021, arXiv:2106.05203, Algorithm 2.
    """

    def encode(delta: Params, feedback: Remembered, key: Key) -> tuple[Correction, Remembered]:
        difference = jax.tree.map(jnp.subtract, _float32(delta), feedback.memory)
        message, inner = compressor.encode(_like(difference, delta), feedback.inner, key)
        memory = jax.tree.map(jnp.add, feedback.memory, _float32(compressor.decode(message)))
        return Correction(message, feedback.memory), Remembered(inner, memory)

    def decode(sent: Correction) -> Params:
        decoded = compressor.decode(sent.message)
        return _like(jax.tree.map(jnp.add, sent.reference, _float32(decoded)), decoded)

    return Compressor(_init(compressor), encode, decode, compressor.bits)


def _init(compressor: Compressor) -> Any:
    def init(params: Params) -> Remembered:
        shapes = jax.eval_shape(lambda tree: tree, params)
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float32), shapes)
        return Remembered(compressor.init(params), zeros)

    return init


def _float32(tree: Params) -> Params:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), tree)


def _like(tree: Params, other: Params) -> Params:
    """`tree` in the dtypes of `other`."""
    return jax.tree.map(lambda leaf, as_in: leaf.astype(jnp.result_type(as_in)), tree, other)
