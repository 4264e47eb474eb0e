"""`nesterov-decay`."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from learned_aggregation.aggregators.classical import check_positive, check_range, classical
from learned_aggregation.types import Aggregator, Params


class DecayState(NamedTuple):
    """count: rounds so far; velocity: shaped like params."""

    count: Int[Array, ""]
    velocity: Params


def nesterov_decay(
    *, learning_rate: float = 0.7, beta: float = 0.9, final: float = 0.0, rounds: float = 1000.0
) -> Aggregator:
    """Nesterov momentum on the server (as `diloco`), whose rate falls in a straight line over a run of known length.

    v <- beta*v + g;  params <- params - learning_rate*s_t*(g + beta*v), with g = -mean(delta), v starts at 0,
    s_t = 1 - (1 - final)*min(t/rounds, 1) in round t = 0, 1, ...

    A control for aggregators that know how long a run is, and for those that learned to end one.

    Args:
      learning_rate: server step size in the first round.
      beta: server momentum in [0, 1); 0 is averaging with a decayed server rate.
      final: the part of the rate that is left after `rounds`, in [0, 1).
      rounds: the length of the run.
    Raises:
      UserError: beta or final outside [0, 1), learning_rate or rounds not above 0.
    References:
      Defazio et al., "When, Why and How Much? Adaptive Learning Rate Scheduling by Refinement", 2023,
      arXiv:2310.07831 (linear decay to 0).

    Example:
      >>> rule = nesterov_decay(learning_rate=0.5, rounds=200.0)
      >>> rule.init((), jnp.zeros(2)).count.item()
      0
    """
    check_range("nesterov-decay", "beta", beta, 0.0, 1.0)
    check_range("nesterov-decay", "final", final, 0.0, 1.0)
    check_positive("nesterov-decay", "learning_rate", learning_rate)
    check_positive("nesterov-decay", "rounds", rounds)

    def init(params: Params) -> DecayState:
        return DecayState(jnp.int32(0), jax.tree.map(jnp.zeros_like, params))

    def rule(g: Params, state: DecayState):
        velocity = jax.tree.map(lambda v, x: beta * v + x, state.velocity, g)
        rate = learning_rate * (1.0 - (1.0 - final) * jnp.minimum(state.count / rounds, 1.0))
        step = jax.tree.map(lambda v, x: -rate * (x + beta * v), velocity, g)
        return step, DecayState(state.count + 1, velocity)

    return classical(init, rule)
