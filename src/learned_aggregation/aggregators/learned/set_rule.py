"""The rule behind `fedlagg-set`: a network that gates and corrects a classical step."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from learned_aggregation.aggregators.classical import check_range
from learned_aggregation.aggregators.learned import bank, set_fused, set_sums
from learned_aggregation.aggregators.learned.base import Base, make_base, rms
from learned_aggregation.aggregators.learned.fast import in_blocks
from learned_aggregation.aggregators.learned.fast_blocks import view_of, walk
from learned_aggregation.aggregators.learned.network import init_network
from learned_aggregation.aggregators.learned.rules import as_tensor, base_steps, init_velocity, steps_to_tree
from learned_aggregation.aggregators.learned.set_features import (
    BOUND,
    LEAST_SPREAD,
    NUM_FEATURES,
    NUM_SCALARS,
    TINY,
    Cohort,
    History,
    Rows,
    Sizes,
    at_block,
    cohort_statistics,
    factored_root,
    features,
    init_history,
    inverse_scales,
    remember,
    scalars,
    scalars_of,
    whole_model,
)
from learned_aggregation.aggregators.learned.set_packed import by_bank, by_rule, is_small, packed_steps
from learned_aggregation.errors import UserError
from learned_aggregation.kernels import pallas_set
from learned_aggregation.kernels.set_step import fits
from learned_aggregation.types import Aggregator, ClientUpdate, Key, Params, Sums, Theta

GAIN = 1.5
"""The gate multiplies the base by at most exp(GAIN) and at least exp(-GAIN)."""
TRUST = 6.0
"""A tensor's step is at most TRUST times the root mean square of its deltas, over clients and parameters."""
BANK = "bank"
"""The base whose weights are learned too, see `bank`; the others are `make_base`'s."""


class SetState(NamedTuple):
    """history and velocity: one for each leaf of params, in leaf order; round: rounds done so far.

    velocity: the base's; of a bank, the sums of squares [3] of the history's momenta.
    """

    history: tuple[History, ...]
    velocity: tuple[Any, ...]
    round: Int[Array, ""]


def set_rule(
    name: str, *, hidden_size: int, base: str, base_learning_rate: Any, base_momentum: Any, strength: Any
) -> Aggregator:
    """See `fedlagg_set`."""
    rates, banked = (base_learning_rate, base_momentum), base == BANK
    limits = (GAIN, bank.TRUST if banked else TRUST)

    def base_rule(rates: tuple[Any, Any]) -> Base:
        rule = make_base(name, "mean" if banked else base, *rates)  # for a bank, to check the rate
        if rule is None:
            raise UserError(
                f"{name}: expected a base to correct, got {base!r}. Use momentum, nesterov, mean or bank."
            )
        return rule

    base_rule(rates)
    check_range(name, "strength", strength, 0.0, math.inf)

    def init_theta(key: Key) -> Theta:
        weights = init_network(key, NUM_FEATURES + NUM_SCALARS, hidden_size)
        theta = {"nn": weights | {"w2": jnp.zeros_like(weights["w2"])}}
        return theta | {"bank": bank.init_weighing(jax.random.fold_in(key, 1))} if banked else theta

    def init(theta: Theta, params: Params) -> SetState:
        histories = tuple(init_history(as_tensor(leaf)) for leaf in jax.tree.leaves(params))
        velocity = (
            (bank.init_velocity(),) * len(histories) if banked else init_velocity(base_rule(rates), params)
        )
        return SetState(histories, velocity, jnp.int32(0))

    @in_blocks
    def steps_and_state(limit, rates, theta, delta, weight, agg_state, params):
        leaves = [as_tensor(leaf) for leaf in jax.tree.leaves(params)]
        deltas = [d.reshape(d.shape[0], -1) for d in jax.tree.leaves(delta)]
        if limit is not None and fits(leaves + deltas):
            by_tensor = set_fused.weighing(theta["bank"], rates[0]) if banked else None
            steps, histories, velocity = set_fused.steps_and_history(
                theta["nn"],
                by_tensor or set_fused.terms_of(base, *rates),
                rates[1],
                deltas,
                weight,
                agg_state.history,
                agg_state.velocity,
                leaves,
                agg_state.round,
                limits,
            )
            return steps_to_tree(params, steps), SetState(histories, velocity, agg_state.round + 1)
        if is_small(leaves):
            history, velocity, rounds = agg_state
            steps, history, velocity = packed_steps(
                theta["nn"],
                by_bank(theta["bank"], rates[0]) if banked else by_rule(base_rule(rates)),
                limits,
                deltas,
                weight,
                history,
                velocity,
                rounds,
                leaves,
            )
            return steps_to_tree(params, steps), SetState(history, velocity, rounds + 1)
        cohorts = [cohort_statistics(d, weight) for d in deltas]
        return from_cohorts(limit, rates, theta, cohorts, agg_state, params)

    def from_cohorts(limit, rates, theta, cohorts, agg_state, params):
        leaves = [as_tensor(leaf) for leaf in jax.tree.leaves(params)]
        means = [c.mean.reshape(p.shape) for c, p in zip(cohorts, leaves, strict=True)]
        old = zip(agg_state.history, means, strict=True)
        histories = [remember(history, mean) for history, mean in old]
        shared = whole_model(cohorts, histories, agg_state.round)
        if banked:
            before = agg_state.velocity
            from_base, velocity, by = banked_steps(
                theta["bank"], rates[0], cohorts, histories, before, leaves, shared
            )
            networks = [bank.opened(theta["nn"], one) for one in by]
        else:
            from_base, _, velocity = base_steps(base_rule(rates), agg_state.velocity, means)
            networks = [theta["nn"]] * len(leaves)
        steps = []
        of_tensors = zip(leaves, cohorts, histories, from_base, networks, strict=True)
        for param, cohort, history, b, network in of_tensors:
            steps.append(
                tensor_step(network, cohort, history, b, param, shared, limits, limit) if param.size else b
            )
        moved = [h._replace(step=s.reshape(-1)) for h, s in zip(histories, steps, strict=True)]
        return steps_to_tree(params, steps), SetState(tuple(moved), velocity, agg_state.round + 1)

    def update(theta: Theta, client_update: ClientUpdate, agg_state: SetState, params: Params):
        theta = with_strength(theta, strength)
        return steps_and_state(rates, theta, client_update.delta, client_update.weight, agg_state, params)

    def finish(theta: Theta, partial: set_sums.PartialCohort, agg_state: SetState, params: Params):
        theta = with_strength(theta, strength)
        return in_blocks(from_cohorts)(rates, theta, set_sums.cohorts(partial), agg_state, params)

    return Aggregator(init_theta, init, update, sums=Sums(set_sums.start, set_sums.add, finish))


def with_strength(theta: Theta, strength: Any) -> Theta:
    """theta with the outputs of its networks multiplied by a number, which may be traced."""
    if isinstance(strength, (int, float)) and strength == 1.0:
        return theta
    last = {"nn": ("w2", "b2"), "bank": ("w1", "b1")}
    return {
        name: weights | {leaf: strength * weights[leaf] for leaf in last[name]}
        for name, weights in theta.items()
    }


def tensor_step(
    weights: dict[str, Array],
    cohort: Cohort,
    history: History,
    base: Float[Array, "..."],
    param: Float[Array, "..."],
    shared: Float[Array, "S"],
    limits: tuple[float, float],
    limit: int | None,
) -> Float[Array, "..."]:
    """The step of one tensor; a large one is walked in blocks of `limit` parameters that stay in the cache.

    Args:
      limits: GAIN, and what TRUST is for this base.
    """
    gain_limit, trust = limits
    flat, b = param.reshape(-1), base.reshape(-1)
    factored = factored_root(history, param.shape)
    rows = Rows(cohort.mean, cohort.spread, cohort.sign, flat, b, history.momentum, history.second, factored)
    inverse = inverse_scales(rows, cohort.effective)
    context = jnp.concatenate([scalars(cohort, history, b, flat), shared])
    bias = weights["b0"] + context @ weights["w0"][NUM_FEATURES:]
    scale = rms(b)

    if limit is not None and pallas_set.fits(rows, weights):
        of_features = weights | {"w0": weights["w0"][:NUM_FEATURES]}
        numbers = (jnp.sqrt(cohort.effective), scale, gain_limit, BOUND, TINY, LEAST_SPREAD)
        step = pallas_set.network_steps(rows, inverse, bias, of_features, numbers)
        return trusted(step, cohort.size, trust).reshape(param.shape)

    def body(steps, block):
        part = at_block(rows, block.offset, block.size)
        x = features(part, cohort.effective, inverse)
        hidden = jax.nn.relu(weights["w0"][:NUM_FEATURES].T @ x + bias[:, None])
        hidden = jax.nn.relu(weights["w1"].T @ hidden + weights["b1"][:, None])
        gain, correction = weights["w2"].T @ hidden + weights["b2"][:, None]
        step = part.base * jnp.exp(gain_limit * jnp.tanh(gain / gain_limit)) - scale * jnp.tanh(correction)
        return lax.dynamic_update_slice(steps, step, (block.offset,))

    step = walk(view_of((flat.size,)), limit, body, jnp.zeros(flat.size))
    return trusted(step, cohort.size, trust).reshape(param.shape)


def banked_steps(
    weights: dict[str, Array],
    rate: Any,
    cohorts: list[Cohort],
    histories: list[History],
    before: tuple[Array, ...],
    leaves: list[Array],
    shared: Float[Array, "S"],
) -> tuple[list[Array], tuple[Array, ...], Float[Array, "T"]]:
    """The bank's step of each tensor, its momenta's sums of squares, and how far its gate and correction are open.

    Args:
      before: the momenta's sums of squares of the round before; `step` in the histories is the last one.
    """
    counts = [param.size for param in leaves]
    squares = bank.Squares(
        jnp.stack(before),
        jnp.stack([jnp.sum(h.momentum**2, axis=1) for h in histories]),
        jnp.stack([jnp.sum(c.mean**2) for c in cohorts]),
        jnp.stack([jnp.sum(h.step**2) for h in histories]),
        jnp.stack([c.size * n if n else jnp.float32(0.0) for c, n in zip(cohorts, counts, strict=True)]),
        jnp.stack([jnp.sum(bank.slow_root(h) ** 2) for h in histories]),
    )
    sizes = bank.sizes_of(squares, jnp.stack([jnp.sum(p * p) for p in leaves]), counts)
    of_tensors = zip(zip(*sizes, strict=True), cohorts, histories, strict=True)
    scalars = jnp.stack([scalars_of(Sizes(*size), c.effective, h) for size, c, h in of_tensors])
    weighed = bank.weigh(weights, squares, counts, scalars, shared, rate)
    steps = [
        bank.step_of(weighed, i, c.mean, h).reshape(param.shape)
        for i, (c, h, param) in enumerate(zip(cohorts, histories, leaves, strict=True))
    ]
    return steps, tuple(squares.momenta), weighed.open


def trusted(step: Float[Array, "N"], size: Float[Array, ""], trust: float) -> Float[Array, "N"]:
    """The step, shortened if its mean square is over trust^2 * size."""
    return step * jnp.minimum(1.0, trust * jnp.sqrt(size + TINY) * lax.rsqrt(jnp.mean(step * step) + TINY))
