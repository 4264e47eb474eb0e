"""An aggregator for a training loop of one's own: `params, state = agg.update(params, deltas, weights, state)`.

Or one client at a time: `start`, `add`, `finish`.
"""

import copy
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from learned_aggregation.aggregators import accepted_options, get_aggregator
from learned_aggregation.devices.numerics import plain_numerics
from learned_aggregation.errors import UserError
from learned_aggregation.pretrained.fit import (
    Partial,
    check_delta,
    check_deltas,
    check_state,
    check_theta,
    checked_params,
    float32,
    like_of,
)
from learned_aggregation.pretrained.trained import LOCAL_OPTIMIZER, Trained
from learned_aggregation.types import AggState, ClientUpdate, Params, Sums, Theta

Ranges = Mapping[str, tuple[float, float]]
"""What theta was meta-trained on: names of card.RANGES, such as "num_grads" -> (lowest, highest)."""


class OutsideTrainedRange(UserWarning):
    """The aggregator is used with numbers that it was not meta-trained on; it may still do well."""


class DropIn:
    """A server-side rule with its theta, for any pytree of parameters.

    Immutable; its functions are pure, jitted, and may be called inside jit, scan and vmap of the user's own, with
    `params` and `state` donated or not.

    Attributes:
      name: of the pretrained aggregator or of the rule; it starts the messages.
      rule: the core Aggregator.
      theta: () for a classical rule.
      clients: the one number of clients that the rule takes, None for any number.
      one_at_a_time: whether the rule has `start`, `add` and `finish`; one that reads every delta has not.
      trained: the ranges that theta was meta-trained on; {} if they are not known.
      local_optimizers: of the clients that it was meta-trained with; () if they are not known.
    """

    def __init__(
        self,
        rule_name: str,
        theta: Theta = (),
        *,
        options: Mapping[str, Any] | None = None,
        name: str | None = None,
        trained: Ranges | None = None,
        local_optimizers: Sequence[str] = (),
        suggested_rates: Mapping[str, float] | None = None,
    ):
        """A drop-in from a registered rule; `load_aggregator` makes one from a file.

        Args:
          rule_name: a registered aggregator, such as "fedlagg-adafac" or "fedavgm".
          theta: of a learned rule: `get_aggregator(rule_name, ...).init_theta(key)` or a loaded one.
          options: of the rule, as get_aggregator takes them.
          trained, local_optimizers: what theta was meta-trained on; leaving it warns, once for each quantity.
          suggested_rates: clients' optimizer -> the local rate to start from.
        Raises:
          UserError: an unknown rule or option, a theta that is not the rule's.
        """
        options = dict(options or {})
        self.name = name or rule_name
        self.rule = get_aggregator(rule_name, **options)
        self.theta = float32(theta)
        self.clients = self.rule.num_clients
        self.one_at_a_time = self.rule.sums is not None
        # Told K without depending on it.
        self._reads_mean = self.clients is None and "num_grads" in accepted_options(rule_name)
        self.trained: Ranges = dict(trained or {})
        self.local_optimizers = tuple(local_optimizers)
        self._known = Trained(rule_name, self.trained, self.local_optimizers, dict(suggested_rates or {}))
        self._warned: set[str] = set()
        check_theta(self.name, self.rule, theta)
        self._step = jax.jit(self._checked_step)
        self._update = jax.jit(self._checked_update)
        self._init = jax.jit(self._checked_init)
        self._start = jax.jit(self._checked_start)
        self._add = jax.jit(self._checked_add, donate_argnums=0)
        self._finish = jax.jit(self._checked_finish)

    def with_theta(self, theta: Theta) -> "DropIn":
        """The same rule with another theta, which may be traced; nothing is compiled again.

        Raises:
          UserError: a theta that is not the rule's.
        """
        check_theta(self.name, self.rule, theta)
        other = copy.copy(self)
        other.theta = theta
        return other

    def init(self, params: Params) -> AggState:
        """The state before the first round.

        Raises:
          UserError: a leaf that is not a floating-point array, or no leaf at all.
        """
        self._warn_outside("tensor_size", *(math.prod(shape) for shape in like_of(params).shapes))
        return self._init(self.theta, params)

    def update(
        self, params: Params, deltas: Params, weights: Any, state: AggState
    ) -> tuple[Params, AggState]:
        """The next model: params + step, computed in float32 and cast back to each leaf's dtype.

        Args:
          params: the server's model, a pytree of floating-point arrays.
          deltas: client minus server parameters; shaped like params with a leading axis over the K clients.
          weights: each client's share in the average, such as its number of examples, [K]; None for equal ones.
            A client of weight 0 has dropped out: whatever its delta holds leaves no trace.
          state: as `init` or the last `update` returned it.
        Returns:
          (params, state).
        Raises:
          UserError: leaves or shapes that do not fit each other, another number of clients than a fixed-K rule
            takes, weights that are negative, not finite or all 0.
        """
        weights = self._checked_values(deltas, weights)
        return self._update(self.theta, params, deltas, weights, state)

    def start(self, params: Params) -> Partial:
        """A round of no client yet; `add` and `finish` then do what `update` does, in the memory of a few models.

        Nothing is kept of a client but sums, so that the memory does not grow with the number of clients, which may
        come in any order. The model is that of `update` but for rounding.

        Raises:
          UserError: as `init`; a rule that reads the clients' deltas one by one, which needs them all at once.

        Example: a server loop that holds one delta at a time.
          >>> import jax.numpy as jnp
          >>> from learned_aggregation import DropIn
          >>> agg, params = DropIn("fedavgm", options={"beta": 0.5}), {"w": jnp.zeros(2)}
          >>> state = agg.init(params)
          >>> for _ in range(2):  # rounds
          ...     partial = agg.start(params)
          ...     for examples, delta in ((10, {"w": jnp.array([1.0, 2.0])}), (30, {"w": jnp.array([5.0, 2.0])})):
          ...         partial = agg.add(partial, delta, examples)
          ...     params, state = agg.finish(params, partial, state)
          >>> params["w"].tolist()
          [10.0, 5.0]
        """
        return self._start(params)

    def add(self, partial: Partial, delta: Params, weight: Any = 1.0) -> Partial:
        """The round with one more client.

        Args:
          partial: as `start` or the last `add` returned it. Its memory becomes that of the result: use that alone.
          delta: client minus server parameters, shaped like params.
          weight: the client's share in the average, such as its number of examples, in any unit. A client of weight 0
            has dropped out: whatever its delta holds leaves no trace.
        Raises:
          UserError: leaves or shapes that do not fit, a weight that is negative or not finite.
        """
        if not isinstance(weight, Tracer):
            value = np.asarray(jax.device_get(weight), np.float64)
            if value.shape != () or not 0 <= value < np.inf:
                raise UserError(
                    f"{self.name}: expected the weight of one client, a number of at least 0, got {value.tolist()}. "
                    "Add each client with a weight of its own, 0 for one that dropped out."
                )
        return self._add(partial, delta, weight)

    def finish(self, params: Params, partial: Partial, state: AggState) -> tuple[Params, AggState]:
        """The next model from the clients that were added, as `update` gives it from all their deltas.

        Args:
          params: as `start` got them.
          state: as `init`, `update` or the last `finish` returned it.
        Returns:
          (params, state).
        Raises:
          UserError: a partial of other params, a state that does not fit, no client with a weight above 0.
        """
        if not isinstance(partial.weight, Tracer):
            clients = int(jax.device_get(partial.clients))
            if not float(jax.device_get(partial.weight)) > 0:
                raise UserError(
                    f"{self.name}: expected a client of weight above 0, got {clients} of weight 0. "
                    "Skip a round that no client took part in."
                )
            self._warn_outside("num_grads", clients)
        return self._finish(self.theta, params, partial, state)

    def step(self, params: Params, deltas: Params, weights: Any, state: AggState) -> tuple[Params, AggState]:
        """As `update`, with the float32 step to ADD to params instead of their sum."""
        weights = self._checked_values(deltas, weights)
        return self._step(self.theta, params, deltas, weights, state)

    def step_from_mean(self, params: Params, mean_delta: Params, state: AggState) -> tuple[Params, AggState]:
        """As `step`, from the mean of the clients' deltas, shaped like params.

        Raises:
          UserError: also for a rule that reads the clients' deltas one by one.
        """
        if self.clients not in (None, 1):
            raise UserError(
                f"{self.name}: expected the deltas of {self.clients} clients, which it reads one by one, got their "
                "mean alone. Pass all deltas, or use an aggregator that reads the mean."
            )
        if not self._reads_mean:
            self._warn_outside("num_grads", 1)
        delta = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], mean_delta)
        return self._step(self.theta, params, delta, None, state)

    def check_problem(
        self,
        *,
        num_local_steps: int | None = None,
        local_learning_rate: float | None = None,
        num_rounds: int | None = None,
        local_optimizer: str | None = None,
    ) -> None:
        """Warns, once for each, of a training that is otherwise than those that theta was meta-trained on."""
        self._warn_outside("num_local_steps", num_local_steps)
        self._warn_outside("local_learning_rate", local_learning_rate)
        self._warn_outside("num_rounds", num_rounds)
        self._warn_outside(LOCAL_OPTIMIZER, local_optimizer)

    def suggested_rate(self, local_optimizer: str = "sgd") -> float:
        """The clients' rate to start from where none is tuned, as the card has it.

        Raises:
          UserError: none is known for this optimizer.

        Example:
          >>> DropIn("fedavg", suggested_rates={"sgd": 0.2}).suggested_rate()
          0.2
        """
        return self._known.suggested_rate(self.name, local_optimizer)

    # Whatever depends on shapes and dtypes alone is checked while JAX traces: once per compilation. The rules compute
    # in float32 also where the user's default is float64.

    def _checked_init(self, theta: Theta, params: Params) -> AggState:
        server = checked_params(self.name, params)
        with plain_numerics():
            return self.rule.init(theta, server)

    def _checked_update(self, theta: Theta, params: Params, deltas: Params, weights: Any, state: AggState):
        step, state = self._checked_step(theta, params, deltas, weights, state)
        return _moved(params, step), state

    def _checked_start(self, params: Params) -> Partial:
        server = checked_params(self.name, params)
        with plain_numerics():
            return Partial(self._sums().start(server), jnp.float32(0.0), jnp.int32(0), like_of(server))

    def _checked_add(self, partial: Partial, delta: Params, weight: Any) -> Partial:
        check_delta(self.name, partial.like.tree(), delta)
        with plain_numerics():
            weight = jnp.asarray(weight, jnp.float32)
            sums = self._sums().add(partial.sums, float32(delta), weight)
            return Partial(sums, partial.weight + weight, partial.clients + 1, partial.like)

    def _checked_finish(self, theta: Theta, params: Params, partial: Partial, state: AggState):
        server = checked_params(self.name, params)
        check_state(self.name, self.rule, theta, server, state)
        if partial.like != like_of(server):
            raise UserError(
                f"{self.name}: expected a partial of these params, got one of other leaves or shapes. "
                "Start it with the params that the round ends with."
            )
        with plain_numerics():
            step, state = self._sums().finish(theta, partial.sums, state, server)
        return _moved(params, step), state

    def _sums(self) -> Sums:
        if self.rule.sums is None:
            raise UserError(
                f"{self.name}: expected a rule that reads sums over the clients, got one that reads their deltas one "
                "by one. Pass all deltas at once to update, or use an aggregator such as lagg-set."
            )
        return self.rule.sums

    def _checked_step(self, theta: Theta, params: Params, deltas: Params, weights: Any, state: AggState):
        server = checked_params(self.name, params)
        check_state(self.name, self.rule, theta, server, state)
        clients = check_deltas(self.name, params, deltas, self.clients)
        if weights is None:
            weight = jnp.ones(clients, jnp.float32)
        else:
            weight = _float32_weights(weights)
            if weight.shape != (clients,):
                raise UserError(
                    f"{self.name}: expected weights of shape {(clients,)}, got {weight.shape}. "
                    "Give each client one, or None for equal weights."
                )
        delta = float32(deltas)
        with plain_numerics():
            if weights is not None:
                delta = jax.tree.map(lambda leaf: _without_dropped(leaf, weight), delta)
            update = ClientUpdate(delta, (), jnp.zeros(clients, jnp.float32), weight)
            return self.rule.update(theta, update, state, server)

    def _checked_values(self, deltas: Params, weights: Any) -> Any:
        """The weights, brought to where float32 holds them and their sum: shares have no unit."""
        shape = np.shape(next(iter(jax.tree.leaves(deltas)), ()))
        self._warn_outside("num_grads", shape[0] if shape else None)
        if weights is None or isinstance(weights, Tracer):
            return weights
        values = np.asarray(jax.device_get(weights), np.float64)
        if not (np.all(np.isfinite(values)) and np.all(values >= 0) and np.any(values > 0)):
            raise UserError(
                f"{self.name}: expected weights of at least 0 and one above 0, got {values.tolist()}. "
                "Skip a round that no client took part in."
            )
        if not isinstance(weights, jax.Array) or _is_extreme(values):
            return np.asarray(
                np.ldexp(values, -np.frexp(values.max())[1]), np.float32
            )  # exact: a power of two
        return weights

    def _warn_outside(self, name: str, *values: float | str | None) -> None:
        told = [value for value in values if value is not None]
        if name in self._warned or (text := self._known.left(name, told)) is None:
            return
        self._warned.add(name)
        warnings.warn(f"{self.name}: {text}", OutsideTrainedRange, stacklevel=3)


def _moved(params: Params, step: Params) -> Params:
    """The sum in float32, or float64 where params are, cast back to the dtype of params."""

    def add(leaf: Array, change: Array) -> Array:
        dtype = jnp.result_type(leaf)
        wide = dtype if dtype == jnp.float64 else jnp.float32  # said, where nothing may be promoted
        return jnp.asarray(jnp.asarray(leaf, wide) + jnp.asarray(change, wide), dtype)

    return jax.tree.map(add, params, step)


def _is_extreme(values: np.ndarray) -> bool:
    """Whether float32 may not hold their sum, or loses digits of the largest."""
    return not 1e-30 < values.max() < 1e30


def _float32_weights(weights: Any) -> Array:
    """Traced ones are divided by the largest; nothing is where all are 0."""
    weight = jnp.asarray(weights)
    if isinstance(weights, Tracer) and jnp.issubdtype(weight.dtype, jnp.floating):
        largest = jnp.max(weight, initial=0.0)
        extreme = (largest > 1e30) | (largest < 1e-30)
        weight = jnp.where(extreme, weight / largest, weight)
    return jnp.asarray(weight, jnp.float32)


def _without_dropped(leaf: Float[Array, "K ..."], weight: Float[Array, "K"]) -> Array:
    return jnp.where(jnp.reshape(weight > 0, (-1, *[1] * (leaf.ndim - 1))), leaf, jnp.zeros_like(leaf))
