"""`powersgd`: two thin matrices in the place of each large one."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_aggregation.federated.compressors.base import (
    Field,
    Shape,
    TensorCode,
    check_whole,
    peak,
    per_tensor,
)
from learned_aggregation.types import Compressor


def powersgd(*, rank: int = 2) -> Compressor:
    """C(M) = P Q^T with P <- orthonormal(M Q), Q <- M^T P: one step of subspace iteration, from the Q of last time.

    A tensor with 2 or more dimensions is the matrix [product of all of them but the last, last]. C(M) is M projected
    onto r directions, so |M - C(M)| <= |M|. If M stays the same, rounds lead to its best approximation of rank r;
    a matrix of rank r or less comes out as it was in the first round. Scalars, vectors and matrices whose two thin
    ones would not be smaller are sent whole.

    The paper averages P over the workers before Q is made, in two all-reduces. Here a client's message is the P
    and Q of its own delta, so the average of the decoded messages may have a rank of K r.

    The feedback is the Q of last time, [last, r], columns of length 1 (the orthonormal P does not depend on their
    lengths); the first is normal numbers, the same for all clients. A column that became 0 or not finite stays as
    it was.

    Bits: 32 r (m + c) for a tensor reshaped to [m, c] if that is less than 32 m c, and 32 n otherwise.

    Args:
      rank: r, at least 1.
    Raises:
      UserError: rank below 1.
    Example:
      >>> import jax, jax.numpy as jnp
      >>> compressor, delta = powersgd(rank=1), jnp.outer(jnp.arange(4.0), jnp.array([1.0, 2.0, 4.0]))
      >>> message, _ = compressor.encode(delta, compressor.init(delta), jax.random.key(0))
      >>> bool(jnp.allclose(compressor.decode(message), delta, atol=1e-5)), compressor.bits(delta)
      (True, 224.0)

    References:
      Vogels et al., "PowerSGD", NeurIPS 2019, arXiv:1905.13727, Algorithm 1.
    """
    check_whole("powersgd", "rank", rank, 1)

    def init(shape: Shape):
        rows, columns = _matrix(shape)
        if not _thinner(rows, columns, rank):
            return ()
        q = jax.random.normal(jax.random.key(0, impl="threefry2x32"), (columns, rank), jnp.float32)
        return q / jnp.linalg.norm(q, axis=0)

    def encode(x, q, noise):
        rows, columns = _matrix(x.shape)
        if not _thinner(rows, columns, rank):
            return Field(x, 32), ()
        top = peak(x)
        matrix = (x / top).reshape(rows, columns)
        p, _ = jnp.linalg.qr(_product(matrix, q))
        new = _product(matrix.T, p)
        return (Field(p, 32), Field(new * top.reshape(()), 32)), _directions(new, q)

    def decode(sent, shape, noise):
        if isinstance(sent, Field):
            return sent.values
        p, q = sent
        return _product(p.values, q.values.T).reshape(shape)

    return per_tensor(TensorCode(encode, decode, init))


def _matrix(shape: Shape) -> tuple[int, int]:
    return (math.prod(shape[:-1]), shape[-1]) if len(shape) > 1 else (math.prod(shape), 1)


def _thinner(rows: int, columns: int, rank: int) -> bool:
    return rank * (rows + columns) < rows * columns


def _product(a: Float[Array, "a b"], b: Float[Array, "b c"]) -> Float[Array, "a c"]:
    # An accelerator's usual product keeps 8 or 11 bits of a float32: too few for directions that are nearly lost.
    return jnp.matmul(a, b, precision="highest")


def _directions(new: Float[Array, "columns r"], old: Float[Array, "columns r"]) -> Float[Array, "columns r"]:
    """The columns of `new` with length 1; those of `old` where there is no direction.

    A column of zeros would give zeros in every later round.
    """
    top = jnp.max(jnp.abs(new), axis=0)
    usable = (top > 0.0) & jnp.isfinite(top)
    scaled = new / jnp.where(usable, top, 1.0)
    length = jnp.linalg.norm(scaled, axis=0)
    return jnp.where(usable, scaled / jnp.where(usable, length, 1.0), old)
