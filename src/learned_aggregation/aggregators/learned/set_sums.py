"""`fedlagg-set`'s statistics over clients that come one at a time: three numbers per parameter, for any K.

With shares of the weights so far and d the new delta,
  mean <- old * mean + new * d;  variance <- old * (variance + new * (d - mean)^2), with the mean before d;
  sign <- old * sign + new * sign(d);  squares <- old^2 * squares + new^2, the sum of the squared shares.

References:
  Welford, "Note on a Method for Calculating Corrected Sums of Squares and Products", Technometrics 4, 1962;
  with weights: West, "Updating Mean and Variance Estimates: An Improved Method", Communications of the ACM 22, 1979.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from learned_aggregation.aggregators.learned.set_features import TINY, Cohort
from learned_aggregation.aggregators.sums import Shares, difference, moved, shares_of
from learned_aggregation.types import Params


class Moments(NamedTuple):
    """Of one tensor of N parameters: the weighted mean, variance and mean sign of the deltas so far, each [N]."""

    mean: Array
    variance: Array
    sign: Array


class PartialCohort(NamedTuple):
    """total []: the weights so far; squares []: the sum of their squared shares; tensors: in leaf order."""

    total: Array
    squares: Array
    tensors: tuple[Moments, ...]


def start(params: Params) -> PartialCohort:
    """Of no client."""
    nothing = tuple(Moments(*(jnp.zeros(leaf.size) for _ in range(3))) for leaf in jax.tree.leaves(params))
    return PartialCohort(jnp.float32(0.0), jnp.float32(0.0), nothing)


def add(partial: PartialCohort, delta: Params, weight: Any) -> PartialCohort:
    """With one more client; one of weight 0 leaves no trace."""
    total, shares = shares_of(partial.total, weight)
    deltas = [leaf.reshape(-1) for leaf in jax.tree.leaves(delta)]
    tensors = tuple(_with(m, d, shares) for m, d in zip(partial.tensors, deltas, strict=True))
    squares = shares.old * shares.old * partial.squares + shares.new * shares.new
    return PartialCohort(total, squares, tensors)


def _with(old: Moments, delta: Array, shares: Shares) -> Moments:
    apart = difference(old.mean, delta, shares)
    variance = shares.old * (old.variance + shares.new * apart * apart)
    return Moments(moved(old.mean, delta, shares), variance, moved(old.sign, jnp.sign(delta), shares))


def cohorts(partial: PartialCohort) -> list[Cohort]:
    """What `cohort_statistics` gives from all deltas at once, for each tensor; its size is mean^2 + variance."""
    return [
        Cohort(
            mean=one.mean,
            spread=jnp.sqrt(one.variance + TINY),
            sign=one.sign,
            size=jnp.mean(one.mean * one.mean + one.variance),
            effective=1.0 / partial.squares,
        )
        for one in partial.tensors
    ]
