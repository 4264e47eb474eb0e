"""Attention and products of many rows on a CPU: equal to XLA's own, with their gradients and theirs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_aggregation.tasks.attention import attend
from learned_aggregation.tasks.products import product


def random(*shapes):
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]


def derivatives(function, operands, seeds):
    """The value, the gradient, and the gradient of a scalar of the gradient."""

    def scalar(operands):
        return jnp.sum(jnp.sin(function(*operands)))

    def of_gradient(operands):
        return sum(jnp.sum(s * g) for s, g in zip(seeds, jax.grad(scalar)(operands), strict=True))

    @jax.jit
    @jax.vmap
    def all_of(operands):
        return function(*operands), jax.grad(scalar)(operands), jax.grad(of_gradient)(operands)

    return jax.tree.leaves(all_of(operands))


def assert_equal(ours, theirs, shapes):
    operands = random(*((2, *shape) for shape in shapes))
    seeds = random(*shapes)
    for a, b in zip(*(derivatives(f, operands, seeds) for f in (ours, theirs)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.max(np.abs(b)))


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_attention(causal, monkeypatch):
    def theirs(query, key, value):
        return jax.nn.dot_product_attention(query, key, value, is_causal=causal)

    query, key, value = random(*[(1, 5, 2, 3)] * 3)
    expected = theirs(query, key, value)
    assert_equal(lambda q, k, v: attend(q, k, v, causal), theirs, [(2, 5, 3, 4)] * 3)
    monkeypatch.setattr(jax.nn, "dot_product_attention", lambda *_, **__: pytest.fail("XLA's attention"))
    np.testing.assert_allclose(attend(query, key, value, causal), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("inside", "outside"), [(3, 5), (5, 3)])
def test_a_product_is_a_product(inside, outside):
    assert_equal(product, lambda x, kernel: x @ kernel, [(2, 4, inside), (inside, outside)])


@pytest.mark.parametrize(("inside", "outside"), [(16, 24), (24, 16)])
def test_the_gradient_of_a_kernel_is_a_plain_product(inside, outside):
    """In the compiled program: a product that sums over the rows of both operands is another, slower routine's."""

    def scalar(x, kernel):
        return jnp.sum(jnp.sin(product(x, kernel)))

    operands = random((64, 8, inside), (inside, outside))
    program = jax.jit(jax.grad(scalar, 1)).lower(*operands).compile().as_text()
    assert "lhs_contracting_dims={1}, rhs_contracting_dims={0}" in program
    assert "lhs_contracting_dims={0}" not in program


def test_other_backends_keep_their_own(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")

    def program(function, *shapes):
        return str(jax.make_jaxpr(function)(*random(*shapes)))

    assert "custom_vjp" not in program(product, (2, 3), (3, 4))
    assert "custom_vjp" not in program(lambda q, k, v: attend(q, k, v, True), *[(1, 3, 2, 4)] * 3)
