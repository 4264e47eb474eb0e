"""convolve: nn.Conv's function on a CPU, by a kernel or without it, equal to XLA's own convolution."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from learned_aggregation import kernels
from learned_aggregation.kernels import compiled
from learned_aggregation.tasks import convolution
from learned_aggregation.tasks.models.conv import conv
from learned_aggregation.tasks.models.resnet import ResNet, _Depth

NATIVE = jax.lax.conv_general_dilated
WAYS = ("kernel", "patches")


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """Convolutions by the kernel, and without it, by patches."""
    if request.param == "patches":
        monkeypatch.setattr(convolution, "fits", lambda *_: False)
    elif shutil.which("g++") is None:
        pytest.skip("needs a C++ compiler")
    else:
        compiled.build()
        kernels.available.cache_clear()
        assert kernels.available()
    return request.param


def with_gradients(model):
    """(params, x) -> (output, gradients of a scalar of it), for clients [2, ...] side by side."""

    def scalar(params, x):
        out = model.apply({"params": params}, x)
        return jnp.sum(out**2), out

    return jax.jit(jax.vmap(jax.grad(scalar, (0, 1), has_aux=True)))


@pytest.mark.parametrize(
    ("window", "stride", "side", "piece"),
    [((3, 3), 2, 6, 2**22), ((2, 3), 1, 4, 2000), ((1, 1), 2, 5, 1), ((5, 4), 2, 8, 2000)],
)
def test_it_is_the_convolution(window, stride, side, piece, way, monkeypatch):
    monkeypatch.setattr(convolution, "PIECE", piece)
    monkeypatch.setattr(jax.lax, "conv_general_dilated", lambda *_, **__: pytest.fail("XLA's convolution"))
    ours = nn.Conv(3, window, stride, conv_general_dilated=convolution.convolve)
    theirs = nn.Conv(3, window, stride, conv_general_dilated=NATIVE)
    x = jax.random.normal(jax.random.key(0), (2, 7, side, side, 2))
    params = jax.vmap(lambda key: ours.init(key, x[0])["params"])(jax.random.split(jax.random.key(1)))
    found, expected = (with_gradients(model)(params, x) for model in (ours, theirs))
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.max(np.abs(b)))


# Batch, sides, channels, channels out, window, strides, padding. Tiles of pixels in one image and across images, with
# rests; few channels, which widen the window's rows; a window beyond the image, and one that leaves pixels out.
CASES = [
    (2, (7, 6), 5, 19, (3, 2), (2, 1), "SAME"),
    (3, (6, 6), 33, 40, (3, 3), (1, 1), "SAME"),
    (20, (3, 3), 17, 33, (3, 3), (1, 1), "SAME"),
    (9, (4, 4), 64, 8, (1, 1), (2, 2), "VALID"),
    (11, (1, 1), 20, 20, (3, 3), (1, 1), "SAME"),
    (2, (9, 9), 2, 7, (2, 2), (3, 3), ((0, 1), (2, 0))),
    (1, (15, 15), 16, 16, (5, 5), (2, 2), ((2, 2), (2, 2))),
    (1, (5, 5), 300, 3, (3, 3), (1, 1), "SAME"),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_kernel_and_its_derivatives(case):
    """The output, its gradients, and the gradients of those, where each of the three programs is another's gradient."""
    if shutil.which("g++") is None:
        pytest.skip("needs a C++ compiler")
    compiled.build()
    kernels.available.cache_clear()
    batch, sides, channels, out, window, strides, padding = case
    keys = jax.random.split(jax.random.key(0), 4)
    x, dx = (jax.random.normal(key, (batch, *sides, channels)) for key in keys[:2])
    kernel, dk = (jax.random.normal(key, (*window, channels, out)) for key in keys[2:])

    def ours(x, kernel):
        assert convolution.fits(x, kernel)
        return convolution.convolve(x, kernel, strides, padding)

    def theirs(x, kernel):
        return NATIVE(x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def derivatives(function):
        def scalar(x, kernel):
            return jnp.sum(function(x, kernel) ** 2)

        def of_gradients(x, kernel):
            gx, gk = jax.grad(scalar, (0, 1))(x, kernel)
            return jnp.sum(gx * dx) + jnp.sum(gk * dk)

        return jax.jit(
            lambda *at: (function(*at), jax.grad(scalar, (0, 1))(*at), jax.grad(of_gradients, (0, 1))(*at))
        )(x, kernel)

    found, expected = (jax.tree.leaves(derivatives(function)) for function in (ours, theirs))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.max(np.abs(b)))


@pytest.mark.parametrize(
    ("batch", "side", "channels", "out", "padding"),
    [
        (2, 2, 3, 4, "VALID"),
        (2, 1, 3, 4, "VALID"),
        (0, 4, 3, 4, "SAME"),
        (2, 4, 3, 0, "SAME"),
    ],
)
def test_of_nothing_it_is_nothing(batch, side, channels, out, padding, way):
    """Images smaller than the window, none at all, no channels out: XLA's shapes, and zeros."""
    names = ("NHWC", "HWIO", "NHWC")
    x, kernel = jnp.ones((batch, side, side, channels)), jnp.ones((3, 3, channels, out))

    def both(function):
        def scalar(x, kernel):
            made = function(x, kernel, (1, 1), padding, dimension_numbers=names)
            return jnp.sum(made), made

        return jax.tree.leaves(jax.grad(scalar, (0, 1), has_aux=True)(x, kernel))

    for a, b in zip(both(convolution.convolve), both(NATIVE), strict=True):
        assert a.shape == b.shape
        np.testing.assert_array_equal(a, np.zeros(b.shape))


def test_the_kernel_is_for_float32_only():
    half = jnp.ones((1, 4, 4, 2), jnp.bfloat16)
    assert not convolution.fits(half, jnp.ones((3, 3, 2, 3), jnp.bfloat16))


def test_models_keep_their_parameters():
    """Names and shapes are nn.Conv's, so that checkpoints and published counts stay valid."""
    x = jnp.zeros((1, 8, 8, 3))

    def shapes(model):
        variables = jax.eval_shape(lambda key: model.init(key, x, train=False), jax.random.key(0))
        return jax.tree.map(jnp.shape, variables["params"])

    assert shapes(conv("4x6", 5))["Conv_1"] == {"kernel": (3, 3, 4, 6), "bias": (6,)}
    block = shapes(ResNet(_Depth((1, 0, 0, 0), True), False, 5))["stage_0_block_0"]
    assert [block[f"Conv_{i}"]["kernel"] for i in range(3)] == [
        (1, 1, 64, 64),
        (3, 3, 64, 64),
        (1, 1, 64, 256),
    ]


def test_other_backends_keep_their_own_convolution(monkeypatch):
    x, kernel = jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 3))
    names = ("NHWC", "HWIO", "NHWC")

    def program():
        function = lambda x, kernel: convolution.convolve(x, kernel, (1, 1), "SAME", dimension_numbers=names)  # noqa: E731
        return str(jax.make_jaxpr(function)(x, kernel))

    assert "conv_general_dilated" not in program()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert "conv_general_dilated" in program()


@pytest.mark.parametrize("shared", ["neither", "images", "kernel"])
def test_clients_side_by_side(shared, way):
    """Two batches of clients, [2, 3, ...]; images that the outer one shares, a kernel that all clients share."""
    keys = jax.random.split(jax.random.key(2), 2)
    x = jax.random.normal(keys[0], (3, 5, 4, 4, 3) if shared == "images" else (2, 3, 5, 4, 4, 3))
    kernel = jax.random.normal(keys[1], (3, 3, 3, 9) if shared == "kernel" else (2, 3, 3, 3, 3, 9))
    axes = (None if shared == "images" else 0, None if shared == "kernel" else 0)
    names = ("NHWC", "HWIO", "NHWC")

    def all_clients(function):
        def one(x, kernel):
            return jnp.sum(jnp.sin(function(x, kernel, (1, 1), "SAME", dimension_numbers=names)))

        one = jax.value_and_grad(one, (0, 1))
        return jax.jit(jax.vmap(jax.vmap(one, (0, axes[1])), axes))(x, kernel)

    found, expected = (jax.tree.leaves(all_clients(f)) for f in (convolution.convolve, NATIVE))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
