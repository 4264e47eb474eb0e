"""The inputs of the per-parameter network, for one tensor. All have a leading feature axis.

Source: Joseph et al., 2025, arXiv:2312.02204, appendix; Metz et al., 2022, arXiv:2203.11860.
"""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from learned_aggregation.aggregators.learned.accumulators import Accumulators, Factored, factored_dims

STEP_SCALES = np.array([1, 3, 10, 30, 100, 300, 1000, 3000, 10000, 30000, 100000], np.float32)


def step_features(round_index: Int[Array, ""]) -> Float[Array, "11"]:
    """tanh(t/x - 1) for the scales x: where in the episode we are; the same for every parameter."""
    return jnp.tanh(round_index.astype(jnp.float32) / STEP_SCALES - 1.0)


def normalise(features: Float[Array, "F ..."]) -> Float[Array, "F ..."]:
    """Divides each feature by its root mean square over the tensor: f * rsqrt(1e-5 + mean(f^2))."""
    axes = tuple(range(1, features.ndim))
    return features * lax.rsqrt(1e-5 + jnp.mean(features * features, axis=axes, keepdims=True))


def delta_features(inputs: str, mean_delta: Float[Array, "..."], deltas: Float[Array, "K ..."]) -> Array:
    """The delta inputs [F, *S]: "mean" (1), "all" (K, in order) or "mean+all" (1 + K)."""
    mean = mean_delta[None]
    return {"mean": mean, "all": deltas, "mean+all": jnp.concatenate([mean, deltas])}[inputs]


def adafac_features(delta_inputs: Array, param: Array, new: Accumulators, factored: Factored) -> Array:
    """The raw features of the -adafac family for one tensor [*S], in the published order.

    Delta inputs, W, m (3), v (1), m rsqrt(v + 1e-6) (3), rsqrt(v + 1e-6) (1), fac_g (3), and 15 features of
    the factored statistics.

    Returns:
      [F_delta + 27, *S] (with three decays for momentum and Adafactor and one for rms).
    """
    rsqrt_v = lax.rsqrt(new.rms + 1e-6)
    dense = [
        delta_inputs,
        param[None],
        new.momentum,
        new.rms,
        new.momentum * rsqrt_v,
        rsqrt_v,
        factored.fac_g,
    ]
    dims = factored_dims(param.shape)
    if dims is None or factored.row_factor is None or factored.col_factor is None:
        inverse = lax.rsqrt(new.diag + 1e-8)
        statistics = [new.diag, new.diag, inverse, inverse, new.momentum * (new.diag + 1e-6) ** -0.5]
    else:
        d1, d0 = dims
        shape = new.momentum.shape[1:]

        def expand(vector: Array, axis: int) -> Array:
            return jnp.broadcast_to(jnp.expand_dims(vector, axis + 1), (vector.shape[0], *shape))

        statistics = [
            expand(new.row, d0),
            expand(new.col, d1),
            expand(lax.rsqrt(new.row + 1e-8), d0),
            expand(lax.rsqrt(new.col + 1e-8), d1),
            new.momentum * factored.row_factor * factored.col_factor,
        ]
    return jnp.concatenate(dense + statistics)
