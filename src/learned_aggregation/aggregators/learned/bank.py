"""A bank of classical steps as `fedlagg-set`'s base, and the small network that weighs them for each tensor.

With g the mean delta, v_j the velocities of heavy ball for three decays and n the slow momentum over the root of the
second moment, of that momentum's size, a tensor's base is

    b = c0 g + c1 v1 + c2 v2 + c3 v3 + c4 n,    c = START * exp(3 tanh(o / 3))

o the network's outputs for that tensor. A sixth, p, says how far the set rule's gate and correction are open there:
their outputs are multiplied by sigmoid(OPEN + p), so that a tensor unlike all that they helped gets the base alone. The
network reads numbers of the tensor and of the whole model, so that its cost does not grow with the number of
parameters. All functions here take T tensors at once.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from learned_aggregation.aggregators.learned.set_features import (
    MOMENTUM_DECAYS,
    NUM_SCALARS,
    TINY,
    History,
    Sizes,
    log_ratio,
)
from learned_aggregation.types import Key

HIDDEN = 16
"""Width of the weighing network's one hidden layer."""
REACH = 3.0
"""A weight is at most exp(REACH) times, at least exp(-REACH) times, its value before the network."""
START = (0.7, 0.2, 0.03, 0.002, 0.1)
"""The weights before any training: of the mean delta, of the three velocities, of the normalised momentum."""
TRUST = 12.0
"""A tensor's step is at most TRUST times the root mean square of its deltas: a long velocity may take longer steps."""
OPEN = 1.0
"""Before any training the set rule's gate and correction are open by sigmoid(OPEN)."""
NORMALISED = 1
"""The momentum that is divided by the root of its second moment."""
SIGNALS = 2 * len(MOMENTUM_DECAYS) + 1
NUM_CONTEXT = 2 * SIGNALS + NUM_SCALARS
"""What the network reads of a tensor: its signals, the whole model's, and the numbers that the set rule knows."""


class Squares(NamedTuple):
    """Sums over the parameters of each of T tensors; those of several tensors are added up.

    before, momenta [T, 3]: of the squared momenta, before and after this round; mean, step, clients, root [T]: of the
    mean delta's squares, the last step's, the clients' mean square, and of (momentum[1] / root of second)^2.
    """

    before: Array
    momenta: Array
    mean: Array
    step: Array
    clients: Array
    root: Array


class Weighed(NamedTuple):
    """A tensor's base as mean * g + momenta @ momentum + slow_root * momentum[1] / root; of T tensors [T], [T, 3].

    open [T]: what the set rule's gate and correction are multiplied by, in (0, 1).
    """

    mean: Array
    momenta: Array
    slow_root: Array
    open: Array


def signals(s: Squares) -> Float[Array, "T 7"]:
    """What the network reads besides the set rule's numbers.

    Three cosines of the mean delta with the momenta of the rounds before, near 1 where the rounds go the same way;
    log ratios of the momenta's sizes to the mean delta's, small where rounds cancel each other; the log ratio of the
    last step's size to the clients' deltas. As momentum = d * before + (1 - d) * g, the products are

        g . before = (|momentum|^2 - d^2 |before|^2 - (1 - d)^2 |g|^2) / (2 d (1 - d))
    """
    decay, mean = jnp.array(MOMENTUM_DECAYS), s.mean[:, None]
    products = (s.momenta - decay**2 * s.before - (1.0 - decay) ** 2 * mean) / (2.0 * decay * (1.0 - decay))
    cosines = jnp.clip(products * lax.rsqrt(s.before * mean + TINY), -1.0, 1.0)
    cosines = jnp.where(s.before > 0.0, cosines, 0.0)  # in the first round the products are rounding alone
    return jnp.concatenate(
        [cosines, log_ratio(s.momenta, mean), log_ratio(s.step, s.clients)[:, None]], axis=1
    )


def init_weighing(key: Key) -> dict[str, Array]:
    """{"w0" [29, 16], "b0" [16], "w1" [16, 6] zeros, "b1" [6]}: an untrained bank has the weights START."""
    unit = jax.random.truncated_normal(key, -2.0, 2.0, (NUM_CONTEXT, HIDDEN))
    return {
        "w0": unit / jnp.sqrt(float(NUM_CONTEXT)),
        "b0": jnp.zeros(HIDDEN),
        "w1": jnp.zeros((HIDDEN, len(START) + 1)),
        "b1": jnp.zeros(len(START) + 1),
    }


def coefficients(weights: dict[str, Array], context: Float[Array, "T I"]) -> tuple[Array, Array]:
    """The five weights [T, 5], positive and within exp(+-3) of START, and how far gate and correction are open [T]."""
    hidden = jnp.tanh(context @ weights["w0"] + weights["b0"])
    found = hidden @ weights["w1"] + weights["b1"]
    return jnp.array(START) * jnp.exp(REACH * jnp.tanh(found[:, :-1] / REACH)), jax.nn.sigmoid(
        OPEN + found[:, -1]
    )


def weigh(
    weights: dict[str, Array],
    squares: Squares,
    counts: list[int],
    scalars: Float[Array, "T 8"],
    shared: Float[Array, "7"],
    rate: float | Array,
) -> Weighed:
    """Each tensor's base.

    Args:
      counts: parameters of each tensor.
      scalars, shared: of `set_features`, with the mean delta for the base, which is not known yet.
      rate: multiplies all five weights.
    """
    whole = signals(Squares(*(jnp.sum(x, axis=0, keepdims=True) for x in squares)))
    everywhere = jnp.broadcast_to(whole, (len(counts), SIGNALS))
    shared = jnp.broadcast_to(shared, (len(counts), shared.size))
    context = jnp.concatenate([signals(squares), everywhere, scalars, shared], axis=1)
    c, opened = coefficients(weights, context)
    c = rate * c
    n = np.maximum(np.array(counts, np.float32), 1.0)
    size = jnp.sqrt((squares.momenta[:, NORMALISED] / n + TINY) / (squares.root / n + TINY))
    return Weighed(c[:, 0], c[:, 1:4] / (1.0 - jnp.array(MOMENTUM_DECAYS)), c[:, 4] * size, opened)


def sizes_of(squares: Squares, param: Float[Array, "T"], counts: list[int]) -> Sizes:
    """Mean squares [T] for the set rule's numbers, the mean delta's in the base's place."""
    n = np.maximum(np.array(counts, np.float32), 1.0)
    mean = squares.mean / n
    return Sizes(mean, squares.clients / n, squares.momenta[:, NORMALISED] / n, mean, param / n)


def opened(weights: dict[str, Array], by: Float[Array, ""]) -> dict[str, Array]:
    """The set rule's network with its two outputs, gate and correction, multiplied by a number."""
    return weights | {"w2": by * weights["w2"], "b2": by * weights["b2"]}


def step_of(weighed: Weighed, tensor: int, mean: Float[Array, "N"], history: History) -> Float[Array, "N"]:
    """The base of one tensor."""
    along = weighed.momenta[tensor] @ history.momentum
    return weighed.mean[tensor] * mean + along + weighed.slow_root[tensor] * slow_root(history)


def slow_root(history: History) -> Float[Array, "N"]:
    """The momentum over the root of the second moment.

    Never a quotient by the second moment: 1 / TINY^2, in that one's derivative, is infinite in float32.
    """
    return history.momentum[NORMALISED] * lax.rsqrt(history.second + TINY)


def init_velocity() -> Float[Array, "3"]:
    """What a bank remembers of a tensor besides its history: the momenta's sums of squares."""
    return jnp.zeros(len(MOMENTUM_DECAYS))
