"""`adamw-matrices`: AdamW as masked modelling's recipes have it, which decay matrices alone."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from learned_aggregation.types import Params

DECAY = 0.05


def adamw_matrices(learning_rate: Any) -> optax.GradientTransformation:
    """AdamW with betas .9 and .95 and weight decay .05 on tensors of rank above 1: matrices, not norms or biases.

    Args:
      learning_rate: a number, or an optax schedule.
    References:
      He et al., 2022, arXiv:2111.06377, appendix A.
    """
    return optax.adamw(learning_rate, b1=0.9, b2=0.95, weight_decay=DECAY, mask=matrices)


def matrices(params: Params) -> Any:
    """True for tensors of rank above 1; axes of length 1 (a class token's [1, 1, D]) do not count."""
    return jax.tree.map(lambda leaf: sum(side > 1 for side in jnp.shape(leaf)) > 1, params)
