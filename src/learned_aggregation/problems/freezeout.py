"""FreezeOut: each layer's rate falls to zero along a cosine, the first layers' soonest; at zero a layer is frozen."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_aggregation.errors import UserError
from learned_aggregation.types import Params

POWERS = {"linear": 1, "squared": 2, "cubic": 3}
SHAPES = ("cosine", "constant", "cut")
NEVER = 1_000_000
"""The layer of a parameter that no schedule freezes: heads, decoders, the last norm."""


class FreezeOut(NamedTuple):
    """When each of L layers stops, and how its rate gets there.

    t0: the share of the run after which layer 0 would stop if f were linear; 1: nothing is frozen, one cosine for all.
    power: f of `lr_ratio`: linear, squared, cubic.
    shape: of a layer's rate: "cosine" to zero at its end; "constant" until its end; "cut", the whole run's cosine until
      its end.
    scale_lr: rates are divided by lr_ratio, so that every layer has moved as far by its end.
    warmup: local steps of a linear warm-up, equal for all layers.
    phases: how many times the set of frozen layers changes at most; between its end and the next change a layer has the
      rate zero, but is still sent.
    tokens: the class token and the positions freeze too, with the patch embedding (layer 0).
    store_features: once the first layers are frozen that see an example whole (a task's `Prefix`), what they make of
      the training examples is computed once and kept on the device.
    """

    t0: float = 0.8
    power: str = "cubic"
    shape: str = "cosine"
    scale_lr: bool = True
    warmup: int = 0
    phases: int = 4
    tokens: bool = True
    store_features: bool = False


def check_freezeout(where: str, options: Mapping[str, Any]) -> FreezeOut:
    """The plan of a dict of options.

    Raises:
      UserError: an unknown option, a value out of its range.
    """
    from learned_aggregation.registry import nearest

    defaults = FreezeOut()._asdict()
    for name, value in options.items():
        if name not in defaults:
            hint = nearest(name, defaults).strip() or f"There are {', '.join(defaults)}."
            raise UserError(f"{where}: expected options of FreezeOut, got {name!r}. {hint}")
        kinds = (int, float) if name == "t0" else (type(defaults[name]),)
        if type(value) not in kinds:
            raise UserError(
                f"{where}.{name}: expected one like {defaults[name]!r}, got {value!r}. Change it."
            )
    plan = FreezeOut(**options)
    ranges = (
        ("t0", 0 < plan.t0 <= 1, "a number above 0 and at most 1"),
        ("power", plan.power in POWERS, f"one of {', '.join(POWERS)}"),
        ("shape", plan.shape in SHAPES, f"one of {', '.join(SHAPES)}"),
        ("warmup", plan.warmup >= 0, "a whole number of at least 0"),
        ("phases", 1 <= plan.phases <= 8, "a whole number from 1 to 8"),
        (
            "store_features",
            plan.tokens or not plan.store_features,
            "False with tokens=False, which go on moving",
        ),
    )
    for name, fits, expected in ranges:
        if not fits:
            raise UserError(f"{where}.{name}: expected {expected}, got {getattr(plan, name)!r}. Change it.")
    return plan


def lr_ratio(plan: FreezeOut, layer: int, layers: int) -> float:
    """f(t0 + (1 - t0) i / L): the share of the run that layer i learns in. Layer 0 is the embedding, block b is b + 1.

    Example:
      >>> round(lr_ratio(FreezeOut(t0=0.8), 6, 12), 3), lr_ratio(FreezeOut(), 12, 12)
      (0.729, 1.0)
    """
    return 1.0 if layer >= layers else (plan.t0 + (1 - plan.t0) * layer / layers) ** POWERS[plan.power]


def rate_factor(
    plan: FreezeOut, layer: int, layers: int, iteration: Float[Array, ""] | float, iterations: int
) -> Float[Array, ""]:
    """What the clients' rate a is multiplied by at local step j, counted from 0 over the whole run.

    max_j = lr_ratio * iterations;  lr_i(j) / a = .5 a_i (1 + cos(pi j / max_j)) for j < max_j, then 0;
    a_i = 1 / lr_ratio with scale_lr, else 1; times min(1, (j + 1) / warmup).

    Args:
      iterations: local steps that will really run: rounds * H.
    References:
      Brock et al., "FreezeOut", 2017, arXiv:1706.04983.
    """
    ratio = lr_ratio(plan, layer, layers)
    end = ratio * iterations
    span = {"cosine": end, "cut": iterations}.get(plan.shape)
    shape = 1.0 if span is None else 0.5 * (1.0 + jnp.cos(math.pi * iteration / span))
    warm = jnp.minimum(1.0, (iteration + 1) / plan.warmup) if plan.warmup else 1.0
    factor = shape * warm / (ratio if plan.scale_lr else 1.0)
    return jnp.where(iteration < end, factor, 0.0).astype(jnp.float32)


def layer_indices(params: Params, plan: FreezeOut) -> tuple[Any, int]:
    """(the layer of each tensor of a vision transformer, L): embedding 0, block b + 1, all else NEVER.

    Raises:
      UserError: parameters without "embed" and "layers".
    """
    if not isinstance(params, Mapping) or not {"embed", "layers"} <= set(params):
        raise UserError(
            "freezing: expected a vision transformer, whose parameters are an embedding and layers, got another model. "
            "Name one such as vit_p4_h64_m128_nh4_nl6, or leave freezing out."
        )
    first = ("embed", *(("class_token", "positions") if plan.tokens else ()))
    found = {
        name: jax.tree.map(lambda _, i=0 if name in first else NEVER: i, tree)
        for name, tree in params.items()
    }
    found["layers"] = {
        name: jax.tree.map(lambda _, i=index: i, tree)
        for name, tree in params["layers"].items()
        for index in [int(name.removeprefix("layer_")) + 1]
    }
    return found, len(params["layers"])


class Change(NamedTuple):
    """From this round on (0 is the first) the layers below `frozen` are frozen."""

    round: int
    frozen: int


def changes(plan: FreezeOut, layers: int, rounds: int, local_steps: int) -> tuple[Change, ...]:
    """At which rounds the set of frozen layers changes, at most `phases` of them, the first Change being of round 0.

    No layer is frozen before its rate is zero; the rounds are those, of all possible ones, that leave the least work.

    Example:
      >>> changes(FreezeOut(), 12, 100, 4)[1:]
      (Change(round=61, frozen=4), Change(round=73, frozen=7), Change(round=82, frozen=9), Change(round=91, frozen=11))
    """
    ends = [
        math.ceil(round(lr_ratio(plan, i, layers) * rounds * local_steps, 6) / local_steps)
        for i in range(layers)
    ]
    possible = sorted({end for end in ends if end < rounds})
    best: tuple[int, ...] = ()
    least = math.inf
    for chosen in itertools.combinations(possible, min(plan.phases, len(possible))):
        work = sum(min((c for c in chosen if c >= end), default=rounds) for end in ends[1:])
        if work < least:
            best, least = chosen, work
    return (Change(0, 0), *(Change(at, sum(end <= at for end in ends)) for at in best))


def formula_cost(plan: FreezeOut, layers: int) -> float:
    """What a run costs against one that freezes nothing, counting its blocks: a forward pass 1, a backward pass 2.

    mean over i = 1 .. L of (1 + 2 lr_ratio_i) / 3

    Example:
      >>> round(100 * (1 - formula_cost(FreezeOut(), 12)), 1), round(100 * (1 - formula_cost(FreezeOut(), 6)), 1)
      (16.1, 14.7)
    """
    return sum((1 + 2 * lr_ratio(plan, i, layers)) / 3 for i in range(1, layers + 1)) / layers


def phased_cost(found: Sequence[Change], layers: int, rounds: int) -> float:
    """The same of a run whose frozen layers change at these rounds."""
    ends = [min((c.round for c in found if c.frozen > i), default=rounds) for i in range(1, layers + 1)]
    return sum((1 + 2 * end / rounds) / 3 for end in ends) / layers
