"""A convolution and its gradients as calls of a kernel on a CPU. Each is bilinear; its gradients are the other two.

forward   out[p]  = sum over taps t of x[p + t] kernel[t]
images    dx[q]   = sum over taps t of dout[q - t] kernel[t]'
kernel    dk[t]   = sum over pixels p of x[p + t]' dout[p]
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learned_aggregation.kernels import CONVOLUTION_TARGETS, available


class Window(NamedTuple):
    """How a kernel moves over images: strides, and padding [(above, below), (left, right)]; static."""

    strides: tuple[int, int]
    pads: tuple[tuple[int, int], tuple[int, int]]


class Sizes(NamedTuple):
    """Shapes of images and kernel, which a gradient must know."""

    x: tuple[int, ...]
    kernel: tuple[int, ...]


def fits(x: Array, kernel: Array) -> bool:
    """Whether there is a kernel for such operands here."""
    return x.ndim == kernel.ndim == 4 and x.dtype == kernel.dtype == jnp.float32 and available()


def convolve_by_kernel(
    x: Float[Array, "B h w c"], kernel: Float[Array, "k l c d"], window: Window
) -> Float[Array, "B i j d"]:
    """Equal to jax.lax.conv_general_dilated up to rounding. Differentiable in reverse, any number of times."""
    return _forward(window, Sizes(x.shape, kernel.shape), x, kernel)


def _out_shape(window: Window, sizes: Sizes) -> tuple[int, ...]:
    (batch, *sides, _), (*spans, _, channels) = sizes.x, sizes.kernel
    moves = zip(sides, spans, window.strides, window.pads, strict=True)
    return (
        batch,
        *(max(0, (side + sum(pad) - span) // stride + 1) for side, span, stride, pad in moves),
        channels,
    )


def _call(target: str, shape: tuple[int, ...], window: Window, left: Array, right: Array) -> Array:
    if 0 in (left.size, right.size, *shape):  # nothing to sum, or nowhere
        return jnp.zeros(shape)
    result = jax.ShapeDtypeStruct(shape, jnp.float32)
    names = ("stride_rows", "stride_columns", "top", "left")
    values = (*window.strides, *(before for before, _ in window.pads))
    attributes = {name: np.int64(value) for name, value in zip(names, values, strict=True)}
    return jax.ffi.ffi_call(target, result, vmap_method="expand_dims")(left, right, **attributes)


def _differentiable(call: Callable[..., Array]) -> Any:
    return jax.custom_vjp(call, nondiff_argnums=(0, 1))


@_differentiable
def _forward(window: Window, sizes: Sizes, x: Array, kernel: Array) -> Array:
    return _call(CONVOLUTION_TARGETS[0], _out_shape(window, sizes), window, x, kernel)


@_differentiable
def _images(window: Window, sizes: Sizes, above: Array, kernel: Array) -> Array:
    return _call(CONVOLUTION_TARGETS[1], sizes.x, window, above, kernel)


@_differentiable
def _kernel(window: Window, sizes: Sizes, x: Array, above: Array) -> Array:
    return _call(CONVOLUTION_TARGETS[2], sizes.kernel, window, x, above)


def _keep(call: Callable[..., Array]) -> Callable[..., tuple[Array, tuple[Array, Array]]]:
    return lambda window, sizes, left, right: (call(window, sizes, left, right), (left, right))


_forward.defvjp(
    _keep(_forward),
    lambda window, sizes, kept, g: (_images(window, sizes, g, kept[1]), _kernel(window, sizes, kept[0], g)),
)
_images.defvjp(
    _keep(_images),
    lambda window, sizes, kept, g: (_forward(window, sizes, g, kept[1]), _kernel(window, sizes, g, kept[0])),
)
_kernel.defvjp(
    _keep(_kernel),
    lambda window, sizes, kept, g: (_images(window, sizes, kept[1], g), _forward(window, sizes, kept[0], g)),
)
