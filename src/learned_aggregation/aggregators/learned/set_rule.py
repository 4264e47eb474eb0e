"""The rule behind `fedlagg-set`: a network that gates and corrects a classical step."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from learned_aggregation.aggregators.learned.base import Base, make_base, rms
from learned_aggregation.aggregators.learned.fast import in_blocks
from learned_aggregation.aggregators.learned.fast_blocks import view_of, walk
from learned_aggregation.aggregators.learned.network import init_network
from learned_aggregation.aggregators.learned.rules import as_tensor, base_steps, init_velocity, steps_to_tree
from learned_aggregation.aggregators.learned.set_features import (
    NUM_FEATURES,
    NUM_SCALARS,
    TINY,
    Cohort,
    History,
    Rows,
    at_block,
    cohort_statistics,
    factored_root,
    features,
    init_history,
    inverse_scales,
    remember,
    scalars,
    whole_model,
)
from learned_aggregation.aggregators.learned.set_packed import is_small, packed_steps
from learned_aggregation.errors import UserError
from learned_aggregation.types import Aggregator, ClientUpdate, Key, Params, Theta

GAIN = 1.5
"""The gate multiplies the base by at most exp(GAIN) and at least exp(-GAIN)."""
TRUST = 6.0
"""A tensor's step is at most TRUST times the root mean square of its deltas, over clients and parameters."""


class SetState(NamedTuple):
    """history and velocity: one for each leaf of params, in leaf order; round: rounds done so far."""

    history: tuple[History, ...]
    velocity: tuple[Any, ...]
    round: Int[Array, ""]


def set_rule(
    name: str, *, hidden_size: int, base: str, base_learning_rate: Any, base_momentum: Any
) -> Aggregator:
    """See `fedlagg_set`."""
    rates = (base_learning_rate, base_momentum)

    def base_rule(rates: tuple[Any, Any]) -> Base:
        rule = make_base(name, base, *rates)
        if rule is None:
            raise UserError(
                f"{name}: expected a base to correct, got {base!r}. Use momentum, nesterov or mean."
            )
        return rule

    base_rule(rates)

    def init_theta(key: Key) -> Theta:
        weights = init_network(key, NUM_FEATURES + NUM_SCALARS, hidden_size)
        return {"nn": weights | {"w2": jnp.zeros_like(weights["w2"])}}

    def init(theta: Theta, params: Params) -> SetState:
        histories = tuple(init_history(as_tensor(leaf)) for leaf in jax.tree.leaves(params))
        return SetState(histories, init_velocity(base_rule(rates), params), jnp.int32(0))

    @in_blocks
    def steps_and_state(limit, rates, theta, delta, weight, agg_state, params):
        leaves = [as_tensor(leaf) for leaf in jax.tree.leaves(params)]
        deltas = [d.reshape(d.shape[0], -1) for d in jax.tree.leaves(delta)]
        if is_small(leaves):
            history, velocity, rounds = agg_state
            steps, history, velocity = packed_steps(
                theta["nn"],
                base_rule(rates),
                (GAIN, TRUST),
                deltas,
                weight,
                history,
                velocity,
                rounds,
                leaves,
            )
            return steps_to_tree(params, steps), SetState(history, velocity, rounds + 1)
        cohorts = [cohort_statistics(d, weight) for d in deltas]
        means = [c.mean.reshape(p.shape) for c, p in zip(cohorts, leaves, strict=True)]
        from_base, _, velocity = base_steps(base_rule(rates), agg_state.velocity, means)
        old = zip(agg_state.history, means, strict=True)
        histories = [remember(history, mean) for history, mean in old]
        shared = whole_model(cohorts, histories, agg_state.round)
        steps = []
        for param, cohort, history, b in zip(leaves, cohorts, histories, from_base, strict=True):
            steps.append(
                tensor_step(theta["nn"], cohort, history, b, param, shared, limit) if param.size else b
            )
        moved = [h._replace(step=s.reshape(-1)) for h, s in zip(histories, steps, strict=True)]
        return steps_to_tree(params, steps), SetState(tuple(moved), velocity, agg_state.round + 1)

    def update(theta: Theta, client_update: ClientUpdate, agg_state: SetState, params: Params):
        return steps_and_state(rates, theta, client_update.delta, client_update.weight, agg_state, params)

    return Aggregator(init_theta, init, update)


def tensor_step(
    weights: dict[str, Array],
    cohort: Cohort,
    history: History,
    base: Float[Array, "..."],
    param: Float[Array, "..."],
    shared: Float[Array, "S"],
    limit: int | None,
) -> Float[Array, "..."]:
    """The step of one tensor; a large one is walked in blocks of `limit` parameters that stay in the cache."""
    flat, b = param.reshape(-1), base.reshape(-1)
    factored = factored_root(history, param.shape)
    rows = Rows(cohort.mean, cohort.spread, cohort.sign, flat, b, history.momentum, history.second, factored)
    inverse = inverse_scales(rows, cohort.effective)
    context = jnp.concatenate([scalars(cohort, history, b, flat), shared])
    bias = weights["b0"] + context @ weights["w0"][NUM_FEATURES:]
    scale = rms(b)

    def body(steps, block):
        part = at_block(rows, block.offset, block.size)
        x = features(part, cohort.effective, inverse)
        hidden = jax.nn.relu(weights["w0"][:NUM_FEATURES].T @ x + bias[:, None])
        hidden = jax.nn.relu(weights["w1"].T @ hidden + weights["b1"][:, None])
        gain, correction = weights["w2"].T @ hidden + weights["b2"][:, None]
        step = part.base * jnp.exp(GAIN * jnp.tanh(gain / GAIN)) - scale * jnp.tanh(correction)
        return lax.dynamic_update_slice(steps, step, (block.offset,))

    step = walk(view_of((flat.size,)), limit, body, jnp.zeros(flat.size))
    return trusted(step, cohort.size).reshape(param.shape)


def trusted(step: Float[Array, "N"], size: Float[Array, ""]) -> Float[Array, "N"]:
    """The step, shortened if its mean square is over TRUST^2 * size."""
    return step * jnp.minimum(1.0, TRUST * jnp.sqrt(size + TINY) * lax.rsqrt(jnp.mean(step * step) + TINY))
