"""`fedlagg-set`'s network over a tensor as one Pallas kernel, for GPUs: what `set_rule.tensor_step` does in blocks."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from learned_aggregation.kernels.pallas_network import (
    TILE,
    Tile,
    add_row,
    answers,
    in_tiles,
    made_for,
    runs,
    some_operands,
)

FEATURES, MOMENTA = 13, 3
NUMBERS = ("root of the effective number of clients", "scale", "gain", "bound", "tiny", "least spread")
"""What is equal for all parameters of a tensor, in this order."""


def fits(rows: Any, weights: dict[str, Array]) -> bool:
    """Whether there is a GPU that runs the kernel, and it is made for this tensor; else XLA's program does the same."""
    arrays = (*rows, *weights.values())
    return rows.param.size > 0 and made_for(arrays, weights["b1"].shape[0]) and available()


@cache
def available() -> bool:
    """Whether this machine's accelerator compiles the kernel, and gives what its interpretation gives.

    Warns, once, if not.
    """
    hidden, n = 32, 1000
    arrays = ("mean", "spread", "sign", "param", "base", "second", "factored")
    sizes = dict.fromkeys(arrays, n) | {"momentum": MOMENTA * n, "inverse": FEATURES}
    sizes |= {"w0": FEATURES * hidden, "bias": hidden, "w1": hidden**2, "b1": hidden}
    sizes |= {"w2": 2 * hidden, "b2": 2}
    numbers = np.array([2.0, 0.1, 1.5, 6.0, 1e-20, 1e-12], np.float32)
    operands = some_operands(sizes) | {"numbers": numbers}
    return runs(lambda interpret: _grid(operands, hidden, interpret))


def network_steps(
    rows: Any,
    inverse: Float[Array, "13"],
    bias: Float[Array, "hidden"],
    weights: dict[str, Array],
    numbers: tuple[Any, ...],
    interpret: bool = False,
) -> Float[Array, "N"]:
    """base * exp(gain * tanh(gate / gain)) - scale * tanh(correction) for every parameter of a tensor.

    Args:
      rows: `set_features.Rows` of N parameters; inverse: 1 / root mean square of each feature.
      bias: of the first layer, with what the scalars add; weights: w0 of the features alone, w1, b1, w2, b2. The number
        of hidden units is a power of two, at least 16.
      numbers: see NUMBERS.
      interpret: as XLA's operations, on any backend.
    Source of the mathematics: see `learned.set_features`.
    """
    operands = rows._asdict() | {name: weights[name] for name in ("w0", "w1", "b1", "w2", "b2")}
    operands |= {"inverse": inverse, "bias": bias}
    operands |= {"numbers": jnp.stack([jnp.asarray(x, jnp.float32) for x in numbers])}
    return _grid({name: x.reshape(-1) for name, x in operands.items()}, bias.shape[0], interpret)


def _grid(operands: Mapping[str, Any], hidden: int, interpret: bool) -> Float[Array, "N"]:
    n = operands["param"].size
    return in_tiles(operands, n, lambda tile: _steps(tile, hidden), interpret, "learned_set_step")


def _steps(tile: Tile, hidden: int) -> Float[Array, "TILE"]:
    refs, read = tile.refs, tile.read
    effective, scale, gain, bound, tiny, least = (refs["numbers"][i] for i in range(len(NUMBERS)))
    mean, base, spread, factor = (read(name) for name in ("mean", "base", "spread", "factored"))
    momentum, root = [read("momentum", m) for m in range(MOMENTA)], lax.rsqrt(read("second") + tiny)
    slow = momentum[1]
    features = [mean, base, *momentum, spread, read("param"), mean * root, slow * root]
    features += [mean * factor, slow * factor, mean * effective / (spread + least), read("sign")]
    total = jnp.broadcast_to(refs["bias"][jnp.arange(hidden)][:, None], (hidden, TILE))
    for i, feature in enumerate(features):
        x = jnp.clip(feature * refs["inverse"][i], -bound, bound)
        total = add_row(refs, "w0", total, i, x)
    gate, correction = answers(refs, total)
    return base * jnp.exp(gain * jnp.tanh(gate / gain)) - scale * jnp.tanh(correction)
