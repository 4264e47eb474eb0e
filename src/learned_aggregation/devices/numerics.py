"""JAX's options for numbers as this package is written for, whatever the user's shell or program sets them to."""

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def plain_numerics() -> Iterator[None]:
    """float32 by default, NumPy's rules for shapes and for bfloat16 with float32.

    JAX_ENABLE_X64, jax_numpy_rank_promotion="raise" and jax_numpy_dtype_promotion="strict" are for the code of whoever
    sets them. Within a traced function the options hold for what is traced in the context.

    Example:
      >>> import jax.numpy as jnp
      >>> with jax.numpy_rank_promotion("raise"), plain_numerics():
      ...     print(jnp.ones((2, 2)) + jnp.ones(2))
      [[2. 2.]
       [2. 2.]]
    """
    with (
        jax.enable_x64(False),
        jax.numpy_rank_promotion("allow"),
        jax.numpy_dtype_promotion("standard"),
    ):
        yield
