"""The set rule's kernel: its three calls for one tensor, from the operands of `learned.set_fused`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learned_aggregation.kernels import SET_SQUARES_TARGET, SET_STATISTICS_TARGET, SET_STEP_TARGET, available

View = tuple[int, int, int, int, int]


class Sums(NamedTuple):
    """Sums over a tensor, in the order that set_statistics.cc gives them.

    Of squares: of the mean delta, of the last step, [of their product], of the spread, of the params, of the mean delta
    and momentum[1] over the root of the second moment, of the mean delta over the spread, of the deltas (weighted by
    the clients' shares); of the three momenta, after this round and before it; [of the mean delta and those before].
    """

    mean: Array
    last: Array
    mean_last: Array
    spread: Array
    param: Array
    mean_root: Array
    slow_root: Array
    ratio: Array
    clients: Array
    momenta: Float[Array, "3"]
    old_momenta: Float[Array, "3"]
    mean_old: Float[Array, "3"]


class Statistics(NamedTuple):
    """What the first call finds: arrays [N], momentum [3, N], velocity [N], or [0] without one.

    along_p [A, p, B, 1, C], along_q [A, 1, B, q, C]: sums of the squares of the mean delta over one factored dimension;
    [0] for rank < 2.
    """

    mean: Array
    momentum: Array
    second: Array
    velocity: Array
    spread: Array
    sign: Array
    along_p: Array
    along_q: Array
    sums: Sums


def fits(arrays: list[Array]) -> bool:
    """Whether the kernel is there and made for tensors like these; else XLA's program does the same."""
    return all(x.dtype == jnp.float32 for x in arrays) and available()


def statistics(
    deltas: Float[Array, "K N"],
    share: Float[Array, "K"],
    param: Float[Array, "N"],
    decays: Float[Array, "5"],
    last: Float[Array, "N"],
    momentum: Float[Array, "3 N"],
    second: Float[Array, "N"],
    velocity: Array,
    *,
    view: View,
    factored: bool,
    **constants: Any,
) -> Statistics:
    """Statistics over the clients and the new history, in one pass over the deltas.

    last, momentum, second and velocity are updated in place where nobody else needs them (mean in the place of last).

    Args:
      decays: of the three momenta, of the second moment, of the velocity.
      constants: tiny, least, largest.
    """
    a, p, b, q, c = view
    n = param.shape[0]
    sides = ((a, p, b, 1, c), (a, 1, b, q, c)) if factored else ((0,), (0,))
    shapes = [(n,), momentum.shape, (n,), velocity.shape, (n,), (n,), *sides, (18,)]
    call = _call(SET_STATISTICS_TARGET, shapes, {4: 0, 5: 1, 6: 2, 7: 3})
    operands = (deltas, share, param, decays, last, momentum, second, velocity)
    *found, sums = call(*operands, **_attributes(view, factored, constants))
    return Statistics._make((*found, Sums._make((*sums[:9], *sums[9:].reshape(3, 3)))))


def squares(
    found: Statistics, factors: tuple[Array, Array], terms: Float[Array, "7"], view: View, **constants: Any
) -> tuple[Array, Array, Array]:
    """The sums of squares over a tensor of the base's step, and of the mean delta and momentum[1] times the factor.

    The last two are 0 for rank < 2.

    Args:
      factors: as along_p and along_q of Statistics; the product is a parameter's factor.
      terms: the base's step is terms[0] mean + terms[1:4] momentum + terms[4] velocity + (terms[5] mean +
        terms[6] momentum[1]) / root of second.
      constants: tiny.
    """
    call = _call(SET_SQUARES_TARGET, [(3,)])
    factored = found.along_p.ndim > 1
    operands = (found.mean, found.momentum, found.second, found.velocity, *factors, terms)
    [sums] = call(*operands, **_attributes(view, factored, constants))
    return sums[0], sums[1], sums[2]


def step(
    found: Statistics,
    factors: tuple[Array, Array],
    terms: Float[Array, "7"],
    param: Float[Array, "N"],
    inverse: Float[Array, "13"],
    numbers: Float[Array, "3"],
    network: dict[str, Array],
    view: View,
    **constants: Any,
) -> tuple[Float[Array, "N"], Float[Array, "N"]]:
    """The tensor's step, twice: for the state and for the model.

    Args:
      inverse: 1 / root mean square of each feature.
      numbers: the root of the clients' effective number, the base's root mean square, the step's largest.
      network: w0 of the features alone, b0 with what the scalars add.
      constants: tiny, least, bound, gain.
    """
    n = param.shape[0]
    call = _call(SET_STEP_TARGET, [(n,), (n,)], {0: 0, 7: 1})
    factored = found.along_p.ndim > 1
    operands = [found.mean, found.momentum, found.second, found.velocity, *factors, terms]
    operands += [found.spread, found.sign, param, inverse, numbers]
    operands += [network[name] for name in ("w0", "b0", "w1", "b1", "w2", "b2")]
    last, step = call(*operands, **_attributes(view, factored, constants))
    return last, step


def _call(
    target: str, shapes: list[tuple[int, ...]], in_place: dict[int, int] | None = None
) -> Callable[..., Any]:
    outputs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return jax.ffi.ffi_call(target, outputs, vmap_method="broadcast_all", input_output_aliases=in_place)


def _attributes(view: View, factored: bool, constants: dict[str, float]) -> dict[str, Any]:
    a, p, b, q, c = view
    numbers = {name: np.float32(value) for name, value in constants.items()}
    return {"a": a, "p": p, "b": b, "q": q, "c": c, "factored": factored} | numbers
