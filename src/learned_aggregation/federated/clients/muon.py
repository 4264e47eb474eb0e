"""`muon`: MuLoCo's inner optimizer."""

import math
from typing import Any

import jax
import optax
from optax.contrib import MuonDimensionNumbers, scale_by_muon

from learned_aggregation.types import Params

OTHERS = frozenset({"embed", "embedding", "positions", "class_token", "head"})
"""Tensors of these names, or in modules of these names, are AdamW's whatever their rank: inputs and outputs."""

DECAY = 0.1


def muon(learning_rate: float) -> optax.GradientTransformation:
    """Muon on the matrices between a model's input and output, AdamW (that of `adamw`) on everything else.

    A matrix W [n, m], or a kernel of more axes, all but the last of which are its rows:

        M <- .95*M + .05*grad;  U = .95*M/(1 - .95^(t+1)) + .05*grad/(1 - .95^t), t = 1, 2, ...
        X = U/norm(U), then five times  A = X X^T;  X <- a*X + (b*A + c*A*A) X
        W <- W - learning_rate*(.2*sqrt(max(n, m))*X + .1*W)

    with (a, b, c) = (3.4445, -4.7750, 2.0315): X has U's singular vectors, and singular values near 1. The factor
    .2*sqrt(max(n, m)) gives the step about the size of AdamW's, so that one rate serves both. Tensors with one axis
    or none, and those that OTHERS names, are AdamW's.

    Example:
      >>> import jax.numpy as jnp
      >>> params = {"kernel": 2.0 * jnp.eye(2), "bias": jnp.zeros(2)}
      >>> optimizer = muon(0.1)
      >>> step, _ = optimizer.update(params, optimizer.init(params), params)
      >>> step["kernel"].shape, step["bias"].shape
      ((2, 2), (2,))

    References:
      Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024: kellerjordan.github.io/posts/muon
      (coefficients, momentum). The code is optax's, which adds the bias corrections.
      Liu et al., "Muon is Scalable for LLM Training", 2025, arXiv:2502.16982 (the factor, the weight decay).
      Thérien et al., "MuLoCo: Muon is a practical inner optimizer for DiLoCo", 2025, arXiv:2505.23725.
    """
    orthogonal = optax.chain(
        scale_by_muon(beta=0.95, weight_dimension_numbers=_rows_and_columns),
        optax.stateless(_sized),
        optax.add_decayed_weights(DECAY),
        optax.scale_by_learning_rate(learning_rate),
    )
    others = optax.adamw(learning_rate, b1=0.9, b2=0.95, weight_decay=DECAY)
    return optax.partition({"muon": orthogonal, "adamw": others}, trained_by)


def trained_by(params: Params) -> Params:
    """Which of the two trains a tensor: params-shaped, "muon" or "adamw".

    Example:
      >>> import jax.numpy as jnp
      >>> trained_by({"layer": {"kernel": jnp.zeros((2, 3))}, "head": {"kernel": jnp.zeros((3, 2))}})
      {'head': {'kernel': 'adamw'}, 'layer': {'kernel': 'muon'}}
    """

    def one(path: tuple[Any, ...], leaf: jax.Array) -> str:
        names = {str(getattr(key, "key", getattr(key, "name", None))) for key in path}
        return "adamw" if leaf.ndim < 2 or names & OTHERS else "muon"

    return jax.tree_util.tree_map_with_path(one, params)


def _rows_and_columns(params: Params) -> Params:
    return jax.tree.map(lambda leaf: MuonDimensionNumbers(tuple(range(leaf.ndim - 1)), leaf.ndim - 1), params)


def _sized(updates: Params, params: Params | None) -> Params:
    """Steps of the size of AdamW's from orthogonal ones."""

    def one(leaf: jax.Array) -> jax.Array:
        rows, columns = math.prod(leaf.shape[:-1]), leaf.shape[-1]
        return 0.2 * math.sqrt(max(rows, columns)) * leaf

    return jax.tree.map(one, updates)
