"""Builds the two families of learned aggregators from features and network."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from learned_aggregation.aggregators.learned.accumulators import (
    ADAFACTOR_DECAYS,
    MOMENTUM_DECAYS,
    RMS_DECAYS,
    Accumulators,
    Decays,
    decay_values,
    init_accumulators,
    update_accumulators,
)
from learned_aggregation.aggregators.learned.base import (
    CORRECTION_EXPONENT,
    LAST_LAYER,
    Base,
    Output,
    rms,
)
from learned_aggregation.aggregators.learned.features import (
    STEP_SCALES,
    adafac_features,
    delta_features,
    normalise,
    step_features,
)
from learned_aggregation.aggregators.learned.network import apply_network, init_network
from learned_aggregation.aggregators.learned.options import LearnedOptions
from learned_aggregation.aggregators.sums import sums_of_mean
from learned_aggregation.errors import UserError
from learned_aggregation.federated.averaging import weighted_mean
from learned_aggregation.types import Aggregator, ClientUpdate, Key, Params, Sums, Theta


class LearnedState(NamedTuple):
    """accumulators: one Accumulators for each leaf of params (() in the plain family), in leaf order.

    round: rounds done so far.
    velocity: the base rule's, one for each leaf of params; () without a base.
    """

    accumulators: tuple[Accumulators, ...]
    round: Int[Array, ""]
    velocity: tuple[Any, ...] = ()


def num_delta_inputs(inputs: str, num_grads: int) -> int:
    return {"mean": 1, "all": num_grads, "mean+all": 1 + num_grads}[inputs]


def clients_of(inputs: str, options: LearnedOptions) -> int | None:
    """The K that theta is made for; None where the network reads the mean alone."""
    return None if inputs == "mean" else options.num_grads


def sums_of(inputs: str, update: Callable[..., Any]) -> Sums | None:
    """The rule from one client at a time; None where the network reads every delta."""
    return sums_of_mean(update) if inputs == "mean" else None


def check_cohort(name: str, inputs: str, num_grads: int, update: ClientUpdate) -> None:
    """Raises a UserError when a fixed-K aggregator gets another number of clients."""
    clients = jax.tree.leaves(update.delta)[0].shape[0]
    if inputs != "mean" and clients != num_grads:
        raise UserError(
            f"{name}: expected the deltas of num_grads={num_grads} clients, got {clients}. "
            f"Pass num_grads={clients} to get_aggregator, or take an aggregator that reads the mean."
        )


def network_step(weights: Any, normalised: Array, step: Array, output: Output) -> Array:
    """The network's step of one tensor: -scale * direction * exp(exponent * magnitude).

    normalised: [F, *S]; step: the step features [11]; returns [*S].
    """
    shape = normalised.shape[1:]
    features = normalised.reshape(normalised.shape[0], -1).T
    inputs = jnp.concatenate([features, jnp.broadcast_to(step, (features.shape[0], len(step)))], axis=1)
    direction, magnitude = apply_network(weights, inputs).T
    return (-output.scale * direction * jnp.exp(output.exponent * magnitude)).reshape(shape)


def init_velocity(base: Base | None, params: Params) -> tuple[Any, ...]:
    return () if base is None else tuple(base.init(as_tensor(leaf)) for leaf in jax.tree.leaves(params))


def base_steps(
    base: Base | None, velocity: tuple[Any, ...], means: list[Array]
) -> tuple[list[Any], list[Output], tuple[Any, ...]]:
    """The base's step of each tensor (0 without a base), the size of its correction, and the new velocities."""
    if base is None:
        return [0.0] * len(means), [Output()] * len(means), ()
    steps, new = [], []
    for mean, old in zip(means, velocity, strict=True):
        step, moved = base.step(mean, old)
        steps.append(step)
        new.append(moved)
    return steps, [Output(rms(b), CORRECTION_EXPONENT) for b in steps], tuple(new)


def init_correction(weights: dict[str, Array], base: Base | None) -> dict[str, Array]:
    """Initial weights of the network: over a base the last layer starts small."""
    return weights if base is None else weights | {"w2": LAST_LAYER * weights["w2"]}


def as_tensor(leaf: Array) -> Array:
    """Scalars are treated as shape [1]."""
    return leaf.reshape(1) if leaf.ndim == 0 else leaf


def leaf_inputs(delta: Params, weight: Array, params: Params) -> list[tuple[Array, Array, Array]]:
    """(param [*S], mean delta [*S], deltas [K, *S]) for each leaf, scalars as shape [1]."""
    mean = jax.tree.leaves(weighted_mean(delta, weight))
    leaves = zip(jax.tree.leaves(params), mean, jax.tree.leaves(delta), strict=True)
    return [(as_tensor(p), as_tensor(g), d.reshape(d.shape[0], *as_tensor(p).shape)) for p, g, d in leaves]


def steps_to_tree(params: Params, steps: list[Array]) -> Params:
    leaves, structure = jax.tree.flatten(params)
    return structure.unflatten([s.reshape(p.shape) for p, s in zip(leaves, steps, strict=True)])


def plain_family(name: str, inputs: str, options: LearnedOptions) -> Aggregator:
    """An aggregator without accumulators: delta inputs and W, normalised, and the step features.

    Args:
      name: the aggregator's, for errors.
      inputs: "mean", "all" or "mean+all".
    Raises:
      UserError: an unknown base, a rate out of its range; at update, another number of clients than num_grads.
    """
    base_rule = options.base_rule(name)
    num_inputs = num_delta_inputs(inputs, options.num_grads) + 1 + len(STEP_SCALES)

    def init_theta(key: Key) -> Theta:
        return {"nn": init_correction(init_network(key, num_inputs, options.hidden_size), base_rule)}

    def init(theta: Theta, params: Params) -> LearnedState:
        return LearnedState((), jnp.int32(0), init_velocity(base_rule, params))

    def update(theta: Theta, client_update: ClientUpdate, agg_state: LearnedState, params: Params):
        check_cohort(name, inputs, options.num_grads, client_update)
        step = step_features(agg_state.round)
        leaves = leaf_inputs(client_update.delta, client_update.weight, params)
        from_base, outputs, velocity = base_steps(
            base_rule, agg_state.velocity, [mean for _, mean, _ in leaves]
        )
        steps = []
        for (param, mean, deltas), b, output in zip(leaves, from_base, outputs, strict=True):
            raw = jnp.concatenate([delta_features(inputs, mean, deltas), param[None]])
            steps.append(b + network_step(theta["nn"], normalise(raw), step, output))
        return steps_to_tree(params, steps), LearnedState((), agg_state.round + 1, velocity)

    return Aggregator(init_theta, init, update, clients_of(inputs, options), sums_of(inputs, update))


def init_adafac_theta(key: Key, num_inputs: int, hidden_size: int, base: Base | None) -> Theta:
    return {
        "nn": init_correction(init_network(key, num_inputs, hidden_size), base),
        "momentum_decays": jnp.zeros(len(MOMENTUM_DECAYS)),
        "rms_decays": jnp.zeros(len(RMS_DECAYS)),
        "adafactor_decays": jnp.zeros(len(ADAFACTOR_DECAYS)),
    }


def decays_of(theta: Theta) -> Decays:
    return Decays(
        decay_values(theta["momentum_decays"], MOMENTUM_DECAYS),
        decay_values(theta["rms_decays"], RMS_DECAYS),
        decay_values(theta["adafactor_decays"], ADAFACTOR_DECAYS),
    )


def adafac_family(name: str, inputs: str, options: LearnedOptions) -> Aggregator:
    """An aggregator with momentum, rms and Adafactor accumulators, driven by the mean delta.

    The accumulators are updated first; the features read the new accumulators and the old params.

    Args:
      name: the aggregator's, for errors.
      inputs: "mean" or "all".
    Raises:
      UserError: an unknown base, a rate out of its range; at update, another number of clients than num_grads.
    """
    base_rule = options.base_rule(name)
    counts = (len(MOMENTUM_DECAYS), len(RMS_DECAYS), len(ADAFACTOR_DECAYS))
    num_inputs = num_delta_inputs(inputs, options.num_grads) + 27 + len(STEP_SCALES)

    def init_theta(key: Key) -> Theta:
        return init_adafac_theta(key, num_inputs, options.hidden_size, base_rule)

    def init(theta: Theta, params: Params) -> LearnedState:
        shapes = [as_tensor(leaf).shape for leaf in jax.tree.leaves(params)]
        accumulators = tuple(init_accumulators(shape, counts) for shape in shapes)
        return LearnedState(accumulators, jnp.int32(0), init_velocity(base_rule, params))

    def update(theta: Theta, client_update: ClientUpdate, agg_state: LearnedState, params: Params):
        check_cohort(name, inputs, options.num_grads, client_update)
        decays, step = decays_of(theta), step_features(agg_state.round)
        leaves = leaf_inputs(client_update.delta, client_update.weight, params)
        from_base, outputs, velocity = base_steps(
            base_rule, agg_state.velocity, [mean for _, mean, _ in leaves]
        )
        accumulators, steps = [], []
        for old, (param, mean, deltas), b, output in zip(
            agg_state.accumulators, leaves, from_base, outputs, strict=True
        ):
            if not param.size:
                accumulators.append(old)
                steps.append(param)
                continue
            new, factored = update_accumulators(old, mean, decays)
            raw = adafac_features(delta_features(inputs, mean, deltas), param, new, factored)
            accumulators.append(new)
            steps.append(b + network_step(theta["nn"], normalise(raw), step, output))
        state = LearnedState(tuple(accumulators), agg_state.round + 1, velocity)
        return steps_to_tree(params, steps), state

    return Aggregator(init_theta, init, update, clients_of(inputs, options), sums_of(inputs, update))
