"""Whether a device runs its clients one after another or side by side."""

import math
from collections.abc import Iterator
from typing import Any

import jax

from learned_aggregation.types import Batch, Key, Server, Task

PRODUCTS = ("dot_general", "conv_general_dilated", "ffi_call")
"""Primitives that multiply and sum; the last is a kernel of ours."""
SMALL = 2**21
"""Bytes that the products of one step of all clients read and write, up to which they train side by side. Up to there
conv nets, ViTs and transformers took .95 to 1.35 times as long in turn (2 to 128 clients), from 7 MB on .6 to 1.1."""


def in_turn(task: Task, server: Server, batches: Batch, key: Key) -> bool:
    """On a CPU, one after another for models that look at more than one place of an example: pixels, tokens.

    Such a model multiplies arrays of more than two axes (convolutions; attention, a product for each example and head).
    An example's work is then much more than its weights', one client keeps a core busy, and its weights and activations
    stay in the caches; a product with the weights is one of matrices, where side by side it would be one for each
    client. What is too small to keep a core busy alone trains side by side: an MLP, which multiplies matrices only, and
    models whose products read and write at most SMALL bytes for all clients. So do all on other backends.

    Args:
      batches: leaves [K, H, B, ...]; only shapes are read.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from learned_aggregation.types import ClientState, Server
      >>> loss = lambda params, state, key, batch: (jnp.mean(batch["x"] @ params), (state, {}))
      >>> task = Task("linear", lambda key: (jnp.ones(3), ()), loss, lambda *_: {}, None)
      >>> server, batches = Server(jnp.ones(3), (), (), ClientState((), ())), {"x": jnp.ones((8, 4, 32, 3))}
      >>> in_turn(task, server, batches, jax.random.key(0))
      False
    """
    if jax.default_backend() != "cpu":
        return False

    def arguments():
        return server.params, server.model_state, key, jax.tree.map(lambda leaf: leaf[0, 0], batches)

    traced = jax.make_jaxpr(task.loss)(*jax.eval_shape(arguments))
    products = [step for step in _steps(traced.jaxpr) if step.primitive.name in PRODUCTS]
    clients = jax.tree.leaves(batches)[0].shape[0]
    return any(map(_many_axes, products)) and clients * sum(map(_bytes, products)) > SMALL


def _many_axes(step: Any) -> bool:
    return any(operand.aval.ndim > 2 for operand in step.invars)


def _bytes(step: Any) -> int:
    arrays = [one.aval for one in (*step.invars, *step.outvars)]
    return sum(array.dtype.itemsize * math.prod(array.shape) for array in arrays)


def _steps(jaxpr: Any) -> Iterator[Any]:
    """The equations of a program and of those that it calls."""
    for step in jaxpr.eqns:
        yield step
        for called in jax.tree.leaves(list(step.params.values()), is_leaf=lambda p: hasattr(p, "eqns")):
            inner = getattr(called, "jaxpr", called)
            if hasattr(inner, "eqns"):
                yield from _steps(inner)
