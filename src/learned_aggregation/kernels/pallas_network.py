"""What the Pallas kernels of learned aggregators share: a grid of tiles, the network's last layers, and when they run.

A program of the grid takes TILE parameters. Their features and hidden units stay in registers, where XLA's program
writes each layer to memory. Sums are in float32 throughout.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Float

TILE = 64
"""Parameters of a program of the grid."""
Refs = dict[str, Any]
"""The operands of a kernel by name, all of them flat."""


class Tile(NamedTuple):
    """The parameters of one program: their places [TILE] among n, and which of these there are."""

    refs: Refs
    place: Array
    inside: Array
    n: int

    def read(self, name: str, row: Any = 0) -> Float[Array, "TILE"]:
        """Of an operand [rows, n]."""
        return triton.load(self.refs[name].at[row * self.n + self.place], mask=self.inside, other=0.0)

    def gather(self, name: str, index: Array) -> Array:
        mask = jnp.broadcast_to(self.inside, index.shape)
        return triton.load(self.refs[name].at[index], mask=mask, other=0.0)


def in_tiles(
    operands: Mapping[str, Any], n: int, steps: Callable[[Tile], Array], interpret: bool, name: str
) -> Float[Array, "N"]:
    """The steps of n parameters, TILE at a time.

    Args:
      interpret: as XLA's operations, on any backend.
    """

    def kernel(*refs):
        place = pl.program_id(0) * TILE + jnp.arange(TILE)
        tile = Tile(dict(zip(operands, refs[:-1], strict=True)), place, place < n, n)
        triton.store(refs[-1].at[place], steps(tile), mask=tile.inside)

    return pl.pallas_call(
        kernel,
        out_shape=jax.ShapeDtypeStruct((n,), jnp.float32),
        grid=(pl.cdiv(n, TILE),),
        interpret=interpret,
        compiler_params=triton.CompilerParams(num_warps=4, num_stages=1),
        name=name,
    )(*operands.values())


def add_row(
    refs: Refs, name: str, total: Float[Array, "hidden TILE"], row: Any, x: Float[Array, "TILE"]
) -> Float[Array, "hidden TILE"]:
    """total + the weights of a feature times its values."""
    hidden = total.shape[0]
    return total + refs[name][row * hidden + jnp.arange(hidden)][:, None] * x


def answers(refs: Refs, total: Float[Array, "hidden TILE"]) -> list[Float[Array, "TILE"]]:
    """The network's two outputs from the sums of its first layer."""
    hidden = total.shape[0]
    units = jnp.arange(hidden)
    turned = refs["w1"][units * hidden + units[:, None]]
    second = triton.dot(turned, jax.nn.relu(total), allow_tf32=False) + refs["b1"][units][:, None]
    second = jax.nn.relu(second)
    return [jnp.sum(refs["w2"][2 * units + o][:, None] * second, axis=0) + refs["b2"][o] for o in range(2)]


def made_for(arrays: Iterable[Array], hidden: int) -> bool:
    """Whether there is a GPU, and a kernel is made for such arrays and so many hidden units."""
    in_reach = all(x.dtype == jnp.float32 and x.size < 2**31 for x in arrays)  # of 32-bit indices
    return jax.default_backend() == "gpu" and in_reach and hidden >= 16 and hidden & (hidden - 1) == 0


def some_operands(sizes: dict[str, int]) -> dict[str, np.ndarray]:
    """Positive numbers for a trial of a kernel, the same every time."""
    return {name: np.abs(0.1 * np.sin(1 + np.arange(size, dtype=np.float32))) for name, size in sizes.items()}


def runs(steps: Callable[[bool], Array]) -> bool:
    """Whether this machine's accelerator compiles a kernel, and gives what its interpretation gives; warns if not.

    Args:
      steps: of a trial; its argument: interpreted.
    """

    def made(interpret: bool) -> np.ndarray:
        return np.asarray(jax.jit(lambda: steps(interpret))())

    try:
        # It is asked in the middle of a trace, which would take these computations in: a trace is its thread's own.
        with ThreadPoolExecutor(1) as thread:
            compiled, oracle = (thread.submit(made, how).result() for how in (False, True))
        reason = "" if np.allclose(compiled, oracle, rtol=1e-4) else "other steps than its interpretation's"
    except Exception as error:  # compilers have errors of their own, and XLA's program is always there
        reason = str(error) or type(error).__name__
    if reason:
        got = reason.splitlines()[0]
        warnings.warn(
            f"kernel: expected a GPU that runs Pallas's, got: {got}. XLA's program runs instead.",
            stacklevel=2,
        )
    return not reason
