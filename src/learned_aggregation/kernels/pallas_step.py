"""A learned aggregator's network over one tensor as one Pallas kernel, for GPUs: what `fast.network_steps` computes."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learned_aggregation.kernels.pallas_network import (
    TILE,
    Tile,
    add_row,
    answers,
    in_tiles,
    made_for,
    runs,
    some_operands,
)

DECAYS = 3


def fits(net: Any, tensor: Any, view: tuple[int, int, int, int, int]) -> bool:
    """Whether there is a GPU that runs the kernel, and it is made for this tensor; else XLA's program does the same."""
    if tensor.momentum is None or view[4] != 1:
        return False
    arrays = [x for x in (*tensor, *net[:4]) if x is not None]
    return made_for(arrays, net.bias.shape[0]) and available()


@cache
def available() -> bool:
    """Whether this machine's accelerator compiles the kernel, and gives what its interpretation gives.

    Warns, once, if not.
    """
    hidden, p, q, n = 32, 24, 40, 24 * 40
    sizes = {"deltas": 3 * n, "param": n, "mean": n, "momentum": DECAYS * n, "rms": n}
    sizes |= {"factor_p": DECAYS * p, "factor_q": DECAYS * q, "along_p": hidden * p, "along_q": hidden * q}
    sizes |= {"dense": 18 * hidden, "bias": hidden, "w1": hidden**2, "b1": hidden, "w2": 2 * hidden, "b2": 2}
    operands = some_operands(sizes) | {"output": np.array([1.0, 0.01], np.float32)}
    return runs(lambda interpret: _grid(operands, hidden, (1, p, 1, q, 1), interpret))


def network_steps(
    net: Any, tensor: Any, view: tuple[int, int, int, int, int], output: Any, interpret: bool = False
) -> Float[Array, "N"]:
    """-scale * direction * exp(exponent * magnitude) for every parameter of a tensor of the -adafac family.

    Args:
      net: `fast.Network`, its hidden size a power of two, at least 16; tensor: `fast.Tensor` with momentum.
      view: (A, p, B, q, 1).
      interpret: as XLA's operations, on any backend.
    Source of the mathematics: see `learned.features`.
    """
    given = tensor._asdict() | {name: x for name, x in net._asdict().items() if name != "weights"}
    sizes = jnp.stack([jnp.asarray(x, jnp.float32) for x in (output.scale, output.exponent)])
    operands = {name: x for name, x in given.items() if x is not None}
    operands |= {name: net.weights[name] for name in ("w1", "b1", "w2", "b2")} | {"output": sizes}
    return _grid({name: x.reshape(-1) for name, x in operands.items()}, net.bias.shape[0], view, interpret)


def _grid(
    operands: Mapping[str, Any], hidden: int, view: tuple[int, int, int, int, int], interpret: bool
) -> Float[Array, "N"]:
    n = operands["param"].size
    return in_tiles(
        operands, n, lambda tile: _steps(tile, hidden, view), interpret, "learned_aggregator_step"
    )


def _steps(tile: Tile, hidden: int, view: tuple[int, int, int, int, int]) -> Float[Array, "TILE"]:
    refs, n, read, gather = tile.refs, tile.n, tile.read, tile.gather
    factored, deltas, units = "factor_p" in refs, refs["deltas"].shape[0] // n, jnp.arange(hidden)
    total = jnp.broadcast_to(refs["bias"][units][:, None], (hidden, TILE))
    a, p, b, q, _ = view
    size_p, size_q = a * p * b, a * b * q
    at_p = tile.place // q
    at_q = (at_p // (p * b) * b + at_p % b) * q + tile.place % q
    if factored:
        total += gather("along_p", units[:, None] * size_p + at_p)
        total += gather("along_q", units[:, None] * size_q + at_q)

    # The rows in the order of fast.stored_rows and fast.derived_rows.
    def add(total, row, x):
        return add_row(refs, "dense", total, row, x)

    total = jax.lax.fori_loop(0, deltas, lambda k, total: add(total, k, read("deltas", k)), total)
    mean, rms = read("mean"), read("rms")
    momentum = [read("momentum", d) for d in range(DECAYS)]
    inverse = jax.lax.rsqrt(rms + 1e-6)
    rows = [read("param"), *momentum, rms]
    if factored:
        factors = [
            gather("factor_p", d * size_p + at_p) * gather("factor_q", d * size_q + at_q)
            for d in range(DECAYS)
        ]
        by_factor = [mean * f for f in factors] + [m * f for m, f in zip(momentum, factors, strict=True)]
    else:
        diag = [read("diag", d) for d in range(DECAYS)]
        rows += diag
        by_factor = [mean * jax.lax.rsqrt(jnp.maximum(x + 1e-9, 1e-9)) for x in diag]
        by_factor += [m * jax.lax.rsqrt(x + 1e-6) for m, x in zip(momentum, diag, strict=True)]
        by_factor += [jax.lax.rsqrt(x + 1e-8) for x in diag]
    rows += [*(m * inverse for m in momentum), inverse, *by_factor]
    for i, x in enumerate(rows):
        total = add(total, deltas + i, x)
    direction, magnitude = answers(refs, total)
    return -refs["output"][0] * direction * jnp.exp(refs["output"][1] * magnitude)
