"""Clients one at a time: weighted means that move with each of them, for rules that read nothing but such means.

A mean moves from the heavier of the two sides on, mean + share * (x - mean) or x - (1 - share) * (x - mean): what all
clients agree on stays exact, and a light client of large numbers that comes first costs no digits of the others.
Weights enter as shares of those so far, so that their unit does not matter. docs/performance.md compares other forms.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learned_aggregation.types import AggState, ClientUpdate, Params, Sums, Theta


class Shares(NamedTuple):
    """Of the weights so far: that of the client that has just come, and that of all before it.

    Both are 0 until the first client with a weight has come; `new` is 0 for a client of weight 0.
    """

    new: Float[Array, ""]
    old: Float[Array, ""]


def shares_of(total: Float[Array, ""], weight: Any) -> tuple[Float[Array, ""], Shares]:
    """(the total with one more client, the shares in it).

    Example:
      >>> total, shares = shares_of(jnp.float32(3.0), 1.0)
      >>> float(total), float(shares.new), float(shares.old)
      (4.0, 0.25, 0.75)
    """
    weight = jnp.asarray(weight, jnp.float32)
    both = total + weight
    new = jnp.where(weight > 0, weight / both, 0.0)
    return both, Shares(new, jnp.where(both > 0, total / both, 0.0))


def difference(mean: Array, x: Array, shares: Shares) -> Array:
    """x - mean; 0 for a client of weight 0, whatever x holds."""
    return jnp.where(shares.new > 0, x - mean, 0.0)


def moved(mean: Array, x: Array, shares: Shares) -> Array:
    """The weighted mean with one more client's x.

    Example:
      >>> float(moved(jnp.float32(2.0), jnp.float32(6.0), Shares(jnp.float32(0.25), jnp.float32(0.75))))
      3.0
    """
    apart = difference(mean, x, shares)
    return jnp.where(shares.new < 0.5, mean + shares.new * apart, x - shares.old * apart)


class PartialMean(NamedTuple):
    """total []: the weights so far. mean: the weighted mean of their deltas, shaped like params."""

    total: Array
    mean: Params


def sums_of_mean(update: Callable[..., tuple[Params, AggState]]) -> Sums:
    """The `Sums` of a rule that reads nothing of its clients but the weighted mean of their deltas.

    To such a rule one client whose delta is the mean is the same cohort, so that its `update` is all that is needed.

    Example: a server that adds each client as it comes and never holds two.
      >>> from learned_aggregation import get_aggregator
      >>> rule, params = get_aggregator("fedavg"), {"w": jnp.zeros(2)}
      >>> partial = rule.sums.start(params)
      >>> for delta, weight in (([1.0, 2.0], 1.0), ([5.0, 2.0], 3.0), ([jnp.nan, 0.0], 0.0)):
      ...     partial = rule.sums.add(partial, {"w": jnp.array(delta)}, weight)
      >>> step, state = rule.sums.finish((), partial, rule.init((), params), params)
      >>> step["w"].tolist()
      [4.0, 2.0]
    """

    def start(params: Params) -> PartialMean:
        return PartialMean(jnp.float32(0.0), jax.tree.map(jnp.zeros_like, params))

    def add(partial: PartialMean, delta: Params, weight: Any) -> PartialMean:
        total, shares = shares_of(partial.total, weight)
        return PartialMean(total, jax.tree.map(lambda mean, x: moved(mean, x, shares), partial.mean, delta))

    def finish(theta: Theta, partial: PartialMean, agg_state: AggState, params: Params):
        delta = jax.tree.map(lambda mean: mean[None], partial.mean)
        one = ClientUpdate(delta, (), jnp.zeros(1), jnp.ones(1))
        return update(theta, one, agg_state, params)

    return Sums(start, add, finish)
