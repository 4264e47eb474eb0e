"""An aggregator for a training loop of one's own: `params, state = agg.update(params, deltas, weights, state)`."""

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from learned_aggregation.aggregators import accepted_options, get_aggregator
from learned_aggregation.devices.numerics import plain_numerics
from learned_aggregation.errors import UserError
from learned_aggregation.pretrained.theta_file import first_difference, named_leaves, shapes
from learned_aggregation.types import AggState, ClientUpdate, Params, Theta

Ranges = Mapping[str, tuple[float, float]]
"""What theta was meta-trained on: "num_grads", "num_local_steps", "local_learning_rate" -> (lowest, highest)."""


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
      trained: the ranges that theta was meta-trained on; {} if they are not known.
    """

    def __init__(
        self,
        rule_name: str,
        theta: Theta = (),
        *,
        options: Mapping[str, Any] | None = None,
        name: str | None = None,
        trained: Ranges | None = None,
    ):
        """A drop-in from a registered rule; `load_aggregator` makes one from a file.

        Args:
          rule_name: a registered aggregator, such as "fedlagg-adafac" or "fedavgm".
          theta: of a learned rule: `get_aggregator(rule_name, ...).init_theta(key)` or a loaded one.
          options: of the rule, as get_aggregator takes them.
        Raises:
          UserError: an unknown rule or option, a theta that is not the rule's.
        """
        options = dict(options or {})
        self.name = name or rule_name
        self.rule = get_aggregator(rule_name, **options)
        self.theta = _float32(theta)
        self.clients = self.rule.num_clients
        # Told K without depending on it.
        self._reads_mean = self.clients is None and "num_grads" in accepted_options(rule_name)
        self.trained: Ranges = dict(trained or {})
        self._warned: set[str] = set()
        self._check_theta(theta)
        self._step = jax.jit(self._checked_step)
        self._update = jax.jit(self._checked_update)
        self._init = jax.jit(self._checked_init)

    def with_theta(self, theta: Theta) -> "DropIn":
        """The same rule with another theta, which may be traced; nothing is compiled again.

        Raises:
          UserError: a theta that is not the rule's.
        """
        self._check_theta(theta)
        other = copy.copy(self)
        other.theta = theta
        return other

    def init(self, params: Params) -> AggState:
        """The state before the first round.

        Raises:
          UserError: a leaf that is not a floating-point array, or no leaf at all.
        """
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
        self, *, num_local_steps: int | None = None, local_learning_rate: float | None = None
    ) -> None:
        """Warns, once for each, of clients that train otherwise than theta was meta-trained with."""
        self._warn_outside("num_local_steps", num_local_steps)
        self._warn_outside("local_learning_rate", local_learning_rate)

    # Whatever depends on shapes and dtypes alone is checked while JAX traces: once per compilation. The rules compute
    # in float32 also where the user's default is float64.

    def _checked_init(self, theta: Theta, params: Params) -> AggState:
        server = self._server(params)
        with plain_numerics():
            return self.rule.init(theta, server)

    def _checked_update(self, theta: Theta, params: Params, deltas: Params, weights: Any, state: AggState):
        step, state = self._checked_step(theta, params, deltas, weights, state)

        def add(leaf: Array, change: Array) -> Array:
            dtype = jnp.result_type(leaf)
            wide = dtype if dtype == jnp.float64 else jnp.float32  # said, where nothing may be promoted
            return jnp.asarray(jnp.asarray(leaf, wide) + jnp.asarray(change, wide), dtype)

        return jax.tree.map(add, params, step), state

    def _checked_step(self, theta: Theta, params: Params, deltas: Params, weights: Any, state: AggState):
        server = self._server(params)
        self._check_state(theta, server, state)
        clients = self._check_deltas(params, deltas)
        if weights is None:
            weight = jnp.ones(clients, jnp.float32)
        else:
            weight = _float32_weights(weights)
            if weight.shape != (clients,):
                raise UserError(
                    f"{self.name}: expected weights of shape {(clients,)}, got {weight.shape}. "
                    "Give each client one, or None for equal weights."
                )
        delta = _float32(deltas)
        with plain_numerics():
            if weights is not None:
                delta = jax.tree.map(lambda leaf: _without_dropped(leaf, weight), delta)
            update = ClientUpdate(delta, (), jnp.zeros(clients, jnp.float32), weight)
            return self.rule.update(theta, update, state, server)

    def _server(self, params: Params) -> Params:
        leaves = named_leaves(params)
        if not leaves:
            raise UserError(
                f"{self.name}: expected params with arrays in them, got {params!r}. Pass a model."
            )
        for leaf_name, leaf in leaves.items():
            dtype = jnp.result_type(leaf)
            if not jnp.issubdtype(dtype, jnp.floating):
                raise UserError(
                    f"{self.name}: expected floating-point params, got {dtype} in {_shown(leaf_name)}. "
                    "Keep such leaves out of params; average them apart if clients change them."
                )
        return _float32(params)

    def _check_deltas(self, params: Params, deltas: Params) -> int:
        """The number of clients."""
        self._check_structure("deltas", deltas, params)
        named = named_leaves(deltas)
        first = np.shape(next(iter(named.values())))
        clients = first[0] if first else 0
        for leaf_name, leaf in named_leaves(params).items():
            got, want = np.shape(named[leaf_name]), (clients, *np.shape(leaf))
            if got != want or clients < 1:
                raise UserError(
                    f"{self.name}: expected deltas of shape {('K', *np.shape(leaf))} in {_shown(leaf_name)}, with "
                    f"one K for all leaves, got {got}. Stack the clients' deltas along a new first axis."
                )
            if not jnp.issubdtype(jnp.result_type(named[leaf_name]), jnp.floating):
                raise UserError(
                    f"{self.name}: expected floating-point deltas, got {jnp.result_type(named[leaf_name])} in "
                    f"{_shown(leaf_name)}. Pass client minus server parameters."
                )
        if self.clients not in (None, clients):
            raise UserError(
                f"{self.name}: expected the deltas of {self.clients} clients, which it was made for, got {clients}. "
                "Use an aggregator that takes any number of clients, such as lagg-set."
            )
        return clients

    def _check_theta(self, theta: Theta) -> None:
        expected = jax.eval_shape(self.rule.init_theta, jax.random.key(0))
        change = first_difference(shapes(theta), shapes(expected))
        if change is not None:
            leaf, got, want = change
            raise UserError(
                f"{self.name}: expected theta leaf {leaf} {want}, got {got}. "
                "Use a theta meta-trained for this rule and its options."
            )

    def _check_state(self, theta: Theta, server: Params, state: AggState) -> None:
        with plain_numerics():
            expected = jax.eval_shape(self.rule.init, theta, server)
        self._check_structure("a state of these params", state, expected)
        change = first_difference(shapes(state), shapes(expected))
        if change is not None:
            leaf, got, want = change
            raise UserError(
                f"{self.name}: expected a state of these params, {want} in {_shown(leaf)}, got {got}. "
                "Pass what init(params) or the last update returned."
            )

    def _check_structure(self, what: str, tree: Any, like: Any) -> None:
        if jax.tree.structure(tree) == jax.tree.structure(like):
            return
        got, want = (dict.fromkeys(named_leaves(found), "one") for found in (tree, like))
        change = first_difference(got, want)
        if change is None:
            detail = "another container"
        elif change[1] == "missing":
            detail = f"no leaf {_shown(change[0])}"
        else:
            detail = f"an extra leaf {_shown(change[0])}"
        raise UserError(
            f"{self.name}: expected {what} with the same tree, got {detail}. Build both from the same model."
        )

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

    def _warn_outside(self, name: str, value: float | None) -> None:
        if value is None or name not in self.trained or name in self._warned:
            return
        low, high = self.trained[name]
        if not low <= value <= high:
            self._warned.add(name)
            span = f"{low:g}" if low == high else f"{low:g} to {high:g}"
            warnings.warn(
                f"{self.name}: meta-trained with {name} {span}, used with {value:g}. Compare it with a tuned "
                "baseline there.",
                OutsideTrainedRange,
                stacklevel=3,
            )


def _float32(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), tree)


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


def _shown(leaf_name: str) -> str:
    return leaf_name or "the array"
