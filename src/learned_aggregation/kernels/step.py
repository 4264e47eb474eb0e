"""The kernel's call: one tensor's step from the operands of `learned.fast`."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_aggregation.kernels import TARGET, available

UNITS = 4
"""The kernel works on so many hidden units at a time."""


def fits(tensor: Any, view: tuple[int, int, int, int, int], bias: Float[Array, "hidden"]) -> bool:
    """Whether the kernel is there and made for this tensor; else XLA's program does the same."""
    in_float32 = all(x is None or x.dtype == jnp.float32 for x in tensor)
    made_for = tensor.momentum is not None and view[4] == 1 and bias.size % UNITS == 0 and in_float32
    return made_for and available()


def kernel_step(
    tensor: Any,
    dense: Float[Array, "F hidden"],
    bias: Float[Array, "hidden"],
    sides: tuple[Array | None, Array | None],
    weights: dict[str, Array],
    output: Any,
    view: tuple[int, int, int, int, int],
) -> Float[Array, "N"]:
    """-scale * direction * exp(exponent * magnitude) of a tensor of the -adafac family.

    Args:
      tensor: `fast.Tensor`; dense: the dense rows' weights, not yet normalised; sides: along_p, along_q.
      view: (A, p, B, q, 1).
    """
    nothing = jnp.zeros((1, 1), jnp.float32)
    factored = tensor.factor_p is not None

    def flat(x: Array | None) -> Array:
        return nothing if x is None else x.reshape(x.shape[0], -1)

    operands = (
        tensor.deltas,
        tensor.param[0],
        tensor.mean[0],
        tensor.momentum,
        tensor.rms[0],
        flat(tensor.diag),
        flat(tensor.factor_p),
        flat(tensor.factor_q),
        flat(sides[0]),
        flat(sides[1]),
        dense,
        bias,
        weights["w1"],
        weights["b1"],
        weights["w2"],
        weights["b2"],
        jnp.stack([jnp.asarray(output.scale, jnp.float32), jnp.asarray(output.exponent, jnp.float32)]),
    )
    a, p, b, q, _ = view
    call = jax.ffi.ffi_call(
        TARGET,
        jax.ShapeDtypeStruct((tensor.param.shape[1],), jnp.float32),
        vmap_method="broadcast_all",
    )
    return call(*operands, a=a, p=p, b=b, q=q, factored=factored)
