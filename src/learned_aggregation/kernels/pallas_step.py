"""A learned aggregator's network over one tensor as one Pallas kernel, for GPUs: what `fast.network_steps` computes.

A program of the grid takes TILE parameters. Their features and hidden units stay in registers, where XLA's program
writes each layer to memory. Sums are in float32 throughout.
"""

import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Float

TILE = 64
"""Parameters of a program of the grid."""
DECAYS = 3


def fits(net: Any, tensor: Any, view: tuple[int, int, int, int, int]) -> bool:
    """Whether there is a GPU that runs the kernel, and it is made for this tensor; else XLA's program does the same."""
    if jax.default_backend() != "gpu" or tensor.momentum is None or view[4] != 1:
        return False
    hidden = net.bias.shape[0]
    arrays = [x for x in (*tensor, *net[:4]) if x is not None]
    in_reach = all(x.dtype == jnp.float32 and x.size < 2**31 for x in arrays)  # of 32-bit indices
    return in_reach and hidden >= 16 and hidden & (hidden - 1) == 0 and available()


@cache
def available() -> bool:
    """Whether this machine's accelerator compiles the kernel, and gives what its interpretation gives.

    Warns, once, if not.
    """
    hidden, p, q, n = 32, 24, 40, 24 * 40
    sizes = {"deltas": 3 * n, "param": n, "mean": n, "momentum": DECAYS * n, "rms": n}
    sizes |= {"factor_p": DECAYS * p, "factor_q": DECAYS * q, "along_p": hidden * p, "along_q": hidden * q}
    sizes |= {"dense": 18 * hidden, "bias": hidden, "w1": hidden**2, "b1": hidden, "w2": 2 * hidden, "b2": 2}
    operands = {
        name: np.abs(0.1 * np.sin(1 + np.arange(size, dtype=np.float32))) for name, size in sizes.items()
    }
    operands["output"] = np.array([1.0, 0.01], np.float32)

    def steps(interpret: bool) -> np.ndarray:
        return np.asarray(
            jax.jit(partial(_grid, hidden=hidden, view=(1, p, 1, q, 1), interpret=interpret))(operands)
        )

    try:
        # It is asked in the middle of a trace, which would take these computations in: a trace is its thread's own.
        with ThreadPoolExecutor(1) as thread:
            ours, oracle = (thread.submit(steps, how).result() for how in (False, True))
        reason = "" if np.allclose(ours, oracle, rtol=1e-4) else "other steps than its interpretation's"
    except Exception as error:  # compilers have errors of their own, and XLA's program is always there
        reason = str(error) or type(error).__name__
    if reason:
        got = reason.splitlines()[0]
        warnings.warn(
            f"kernel: expected a GPU that runs Pallas's, got: {got}. XLA's program runs instead.",
            stacklevel=2,
        )
    return not reason


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
    operands: dict[str, Array], hidden: int, view: tuple[int, int, int, int, int], interpret: bool
) -> Float[Array, "N"]:
    n = operands["param"].size

    def kernel(*refs):
        _tile_steps(dict(zip(operands, refs[:-1], strict=True)), refs[-1], hidden, view)

    return pl.pallas_call(
        kernel,
        out_shape=jax.ShapeDtypeStruct((n,), jnp.float32),
        grid=(pl.cdiv(n, TILE),),
        interpret=interpret,
        compiler_params=triton.CompilerParams(num_warps=4, num_stages=1),
        name="learned_aggregator_step",
    )(*operands.values())


def _tile_steps(refs: dict[str, Any], to: Any, hidden: int, view: tuple[int, int, int, int, int]) -> None:
    """One program of the grid; all of refs are flat."""
    n, factored = refs["param"].shape[0], "factor_p" in refs
    deltas = refs["deltas"].shape[0] // n
    place = pl.program_id(0) * TILE + jnp.arange(TILE)
    inside, units = place < n, jnp.arange(hidden)

    def read(name: str, row: Any = 0) -> Float[Array, "TILE"]:
        return triton.load(refs[name].at[row * n + place], mask=inside, other=0.0)

    def gather(name: str, index: Array) -> Array:
        return triton.load(refs[name].at[index], mask=jnp.broadcast_to(inside, index.shape), other=0.0)

    def add(total: Array, row: Any, x: Float[Array, "TILE"]) -> Float[Array, "hidden TILE"]:
        return total + refs["dense"][row * hidden + units][:, None] * x

    total = jnp.broadcast_to(refs["bias"][units][:, None], (hidden, TILE))
    a, p, b, q, _ = view
    size_p, size_q = a * p * b, a * b * q
    at_p = place // q
    at_q = (at_p // (p * b) * b + at_p % b) * q + place % q
    if factored:
        total += gather("along_p", units[:, None] * size_p + at_p)
        total += gather("along_q", units[:, None] * size_q + at_q)

    # The rows in the order of fast.stored_rows and fast.derived_rows.
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

    turned = refs["w1"][units * hidden + units[:, None]]
    second = triton.dot(turned, jax.nn.relu(total), allow_tf32=False) + refs["b1"][units][:, None]
    second = jax.nn.relu(second)
    direction, magnitude = (
        jnp.sum(refs["w2"][2 * units + o][:, None] * second, axis=0) + refs["b2"][o] for o in range(2)
    )
    step = -refs["output"][0] * direction * jnp.exp(refs["output"][1] * magnitude)
    triton.store(to.at[place], step, mask=inside)
