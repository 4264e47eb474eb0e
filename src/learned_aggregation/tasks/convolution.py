"""Convolutions whose kernels differ from client to client, fast on a CPU too."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_aggregation.kernels.convolution import Window, convolve_by_kernel, fits
from learned_aggregation.tasks.products import product

PIECE = 2**22
"""Bytes of patches that are cut at once: about a core's caches."""


def convolve(
    x: Float[Array, "B h w c"],
    kernel: Float[Array, "k l c d"],
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    **rest: Any,
) -> Float[Array, "B i j d"]:
    """A convolution as nn.Conv asks for one: `nn.Conv(32, (3, 3), conv_general_dilated=convolve)`.

    Equal to jax.lax.conv_general_dilated up to rounding. Clients that train side by side have kernels of their own;
    XLA's CPU backend runs such grouped convolutions, and any inside a loop, over ten times slower than a matrix
    product of the same size. On a CPU this is therefore a kernel of ours (`kernels/convolution.cc`). Where that is not
    compiled, or the images are not float32, it is a product of the images' patches and the kernel:

        out[b, i, j] = sum_{k, l, c} padded x[b, i*stride + k, j*stride + l, c] * kernel[k, l, c]

    Patches of more than PIECE bytes are cut piece by piece of the batch, and again for the gradient: they take k*l
    times the memory of x. Other backends keep their own convolution.
    """
    if jax.default_backend() != "cpu":
        return jax.lax.conv_general_dilated(x, kernel, strides, padding, **rest)
    window, matrix = kernel.shape[:2], kernel.reshape(math.prod(kernel.shape[:3]), kernel.shape[3])
    pads = _pads(x.shape[1:3], window, strides, padding)
    if fits(x, kernel):
        (down, across), ((above, below), (left, right)) = strides, pads
        return convolve_by_kernel(x, kernel, Window((down, across), ((above, below), (left, right))))

    def multiply(x: Array) -> Array:
        return product(cut_windows(x, window, strides, pads), matrix)

    batch = x.shape[0]
    out = jax.eval_shape(multiply, x)
    patches = x.dtype.itemsize * math.prod(out.shape[:3]) * matrix.shape[0]
    if window == (1, 1) or patches <= PIECE:
        return multiply(x)
    pieces = min(batch, -(-patches // PIECE))
    size = -(-batch // pieces)
    x = jnp.pad(x, ((0, -batch % size), (0, 0), (0, 0), (0, 0)))
    found = jax.lax.map(jax.checkpoint(multiply), x.reshape(-1, size, *x.shape[1:]))
    return found.reshape(-1, *out.shape[1:])[:batch]


def cut_windows(
    x: Float[Array, "B h w c"],
    window: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[tuple[int, int]],
) -> Float[Array, "B i j k*l*c"]:
    """What the window sees at each output pixel, in the order of a kernel's first three axes."""
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    extent = [
        (side - size) // step * step + 1
        for side, size, step in zip(x.shape[1:3], window, strides, strict=True)
    ]
    seen = [
        x[:, top : top + extent[0] : strides[0], left : left + extent[1] : strides[1]]
        for top, left in itertools.product(*map(range, window))
    ]
    return jnp.concatenate(seen, axis=-1)


def _pads(
    sides: Sequence[int],
    window: Sequence[int],
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
) -> Sequence[tuple[int, int]]:
    if isinstance(padding, str):
        return jax.lax.padtype_to_pads(sides, window, strides, padding)
    return padding
