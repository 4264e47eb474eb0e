"""Whether a device runs its clients one after another or side by side."""

import math
from collections.abc import Iterator
from typing import Any

import jax

from learned_aggregation.types import Batch, Key, Server, Task

PRODUCTS = ("dot_general", "conv_general_dilated", "ffi_call")
"""Primitives that multiply and sum; the last is a kernel of ours."""
SMALL = 2**18
"""Bytes that the products of a client's step read and write, up to which clients train side by side. In turn, 8 conv
nets, ViTs or transformers of 40 to 200 KB took 1.0 to 1.3 times as long, those of 800 and more .9 to 1.0 times."""


def in_turn(task: Task, server: Server, batches: Batch, key: Key) -> bool:
    """On a CPU, one after another for models that look at more than one place of an example: pixels, tokens.

    Such a model multiplies arrays of more than two axes (convolutions; attention, a product for each example and head).
    An example's work is then much more than its weights', one client keeps a core busy, and its weights and activations
    stay in the caches; a product with the weights is one of matrices, where side by side it would be one for each
    client. What is too small to keep a core busy alone trains side by side: an MLP, which multiplies matrices only, and
    models whose products read and write at most SMALL bytes. So do all on other backends.

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
    return any(map(_many_axes, products)) and sum(map(_bytes, products)) > SMALL


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
