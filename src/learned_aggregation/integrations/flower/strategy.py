"""A server-side rule, learned or classical, as a Flower strategy."""

import fnmatch
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from logging import INFO, WARNING, getLogger
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from flwr.app import (  # pyright: ignore[reportMissingImports]
    ArrayRecord,
    ConfigRecord,
    Message,
    MetricRecord,
)
from flwr.serverapp import Grid  # pyright: ignore[reportMissingImports]
from flwr.serverapp.strategy import FedAvg, Result  # pyright: ignore[reportMissingImports]

from learned_aggregation.errors import RunError, UserError
from learned_aggregation.integrations.flower.cohorts import Cohort, Held, Summed
from learned_aggregation.integrations.flower.grid import OneByOne
from learned_aggregation.integrations.flower.records import arrays_to_record, record_to_arrays
from learned_aggregation.integrations.flower.replies import (
    Keys,
    Reply,
    UnusableError,
    average_metrics,
    read_reply,
)
from learned_aggregation.integrations.flower.state import ServerRecord, load_record, save_record
from learned_aggregation.pretrained.drop_in import DropIn
from learned_aggregation.pretrained.loading import load_aggregator
from learned_aggregation.types import AggState, Params

_log = getLogger("flwr").log  # the strategy's lines stand among Flower's


class ServerAggregator(Protocol):
    """What the strategy needs of a rule; `load_aggregator` and `DropIn` give one.

    It may also have `clients`, the one number of clients that it takes (None for any), and `name`; and where its
    `one_at_a_time` is True, the strategy calls `start`, `add` and `finish` as DropIn has them in place of `update`.
    """

    def init(self, params: Params) -> AggState: ...

    def update(
        self, params: Params, deltas: Params, weights: Any, state: AggState
    ) -> tuple[Params, AggState]: ...


class LearnedAggregation(FedAvg):
    """A Flower strategy whose server step is an aggregator of this package.

    Once a round: delta_k = arrays of client k - arrays of the server, weight_k = its number of examples, and
    `params, state = aggregator.update(params, deltas, weights, state)`. Sampling and evaluation are FedAvg's.

    A rule that reads sums over the clients (`DropIn.one_at_a_time`) gets each reply as it arrives, and the server holds
    these sums and one reply; only a rule that reads every delta makes it hold them all.

    Clients answer a train message with one ArrayRecord, named and shaped like the one they got, and one
    MetricRecord with their number of examples (`weighted_by_key`). Deltas that are held are put in the order of the
    number that a client may report as `client_id_key` (its partition, say), then of the node ids: a round does not
    depend on which reply came first. Of sums it depends in the last digit.

    A reply is left out, with a line in the log, if it is an error, has other names or shapes, NaN or infinity, or
    no weight above 0. Then
      - if no reply is left, the round is skipped: model and state stay as they were;
      - a rule for any number of clients takes what came;
      - a rule for exactly K clients finds, in the empty places, the weighted mean of the deltas that came with
        the mean of their weights, which leaves the cohort's mean as it is. It never asks more than K clients.

    Arrays that are not floating-point (counters) and those that `averaged` names (running statistics) are no
    parameters: they are averaged by weight, and rounded where they are whole numbers.

    Attributes:
      aggregator: the rule.
      round: the last finished round, 0 before the first.
    """

    def __init__(
        self,
        aggregator: ServerAggregator | str | os.PathLike,
        *,
        averaged: Sequence[str] = (),
        state_file: str | os.PathLike | None = None,
        client_id_key: str = "client-id",
        **fedavg: Any,
    ):
        """A strategy for a ServerApp.

        Args:
          aggregator: the name or path of a meta-trained one, as `load_aggregator` takes it, or an object with
            `init` and `update`: `DropIn("fedavgm", options={"beta": 0.9})`.
          averaged: patterns (`*running_mean`) of the arrays to average by weight.
          state_file: keeps model, state of the rule and round after every round; if it is there, `start` goes on
            from it. None keeps nothing.
          client_id_key: the metric with a client's place in the order; it is not averaged.
          **fedavg: of flwr.serverapp.strategy.FedAvg: fraction_train, min_available_nodes, weighted_by_key, ...
        Raises:
          UserError: no such aggregator.
        """
        super().__init__(**fedavg)
        is_name = isinstance(aggregator, (str, os.PathLike))
        self.aggregator: Any = load_aggregator(aggregator) if is_name else aggregator
        self.averaged = tuple(averaged)
        self.state_file = None if state_file is None else Path(state_file).absolute()
        self.round = 0
        self._clients: int | None = getattr(self.aggregator, "clients", None)
        self._one_at_a_time = bool(getattr(self.aggregator, "one_at_a_time", False))
        self._name = str(getattr(self.aggregator, "name", type(self.aggregator).__name__))
        self._keys = Keys(self.weighted_by_key, client_id_key)
        self._rounds_before = 0  # those of the run that `start` goes on with
        self._server: dict[str, np.ndarray] = {}
        self._agg_state: AggState = None
        self._has_state = False

    def summary(self) -> None:
        """Logs the settings."""
        clients = "any number of" if self._clients is None else f"exactly {self._clients}"
        _log(INFO, "\t├──> Aggregator: %s, for %s clients", self._name, clients)
        _log(INFO, "\t├──> State file: %s", self.state_file or "none")
        super().summary()

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> Result:
        """Runs the rounds 1 to num_rounds, or those of them that the state file has not seen.

        Args are those of Flower's Strategy.start; `initial_arrays` tells names and shapes of a saved model, too.

        Returns:
          Flower's Result of the rounds run now, by their own numbers. `arrays` is the last model in any case.
        Raises:
          UserError: arrays that are not numbers; a state file that is corrupt or of another model or rule.
          RunError: the rule's next model is not finite, or the state file cannot be written.
        """
        self._begin(record_to_arrays(initial_arrays))
        if isinstance(self.aggregator, DropIn):
            self.aggregator.check_problem(num_rounds=num_rounds)
        done = self._rounds_before = self.round
        if done:
            _log(INFO, "%s: goes on after round %d; [ROUND n] below is n + %d", self.state_file, done, done)
        evaluate = evaluate_fn and (lambda number, arrays: evaluate_fn(number + done, arrays))
        pulled: Any = OneByOne(grid) if self._one_at_a_time else grid
        result = super().start(
            pulled,
            arrays_to_record(self._server),
            max(num_rounds - done, 0),
            timeout,
            train_config,
            evaluate_config,
            evaluate,
        )
        for name in ("train_metrics_clientapp", "evaluate_metrics_clientapp", "evaluate_metrics_serverapp"):
            setattr(result, name, {number + done: m for number, m in getattr(result, name).items()})
        result.arrays = arrays_to_record(self._server)
        return result

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """FedAvg's messages; K of them at most if the rule is for exactly K clients."""
        self._server = record_to_arrays(arrays)
        messages = list(super().configure_train(server_round + self._rounds_before, arrays, config, grid))
        if self._clients is not None and len(messages) > self._clients:
            _log(INFO, "configure_train: %s takes %d of them", self._name, self._clients)
        return messages[: self._clients]  # FedAvg samples in random order

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The next model and the clients' mean metrics; (None, None) if the round is skipped.

        Raises:
          RunError: the rule's next model is not finite, or the state file cannot be written.
        """
        number = server_round + self._rounds_before
        self._ensure_state()
        cohort = self._cohort()
        used = self._usable("aggregate_train", replies, self._server, cohort)
        if used:
            self._server, self._agg_state = self._advance(number, cohort)
        else:
            _log(WARNING, "aggregate_train: no usable reply; round %d leaves the model as it is", number)
        self.round = number
        if self.state_file is not None:
            save_record(self.state_file, self._record())
        if not used:
            return None, None
        return arrays_to_record(self._server), average_metrics(used, self._keys, self.train_metrics_aggr_fn)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """FedAvg's messages."""
        return super().configure_evaluate(server_round + self._rounds_before, arrays, config, grid)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """The clients' mean metrics, weighted by their number of examples; None without a usable reply."""
        used = self._usable("aggregate_evaluate", replies)
        return average_metrics(used, self._keys, self.evaluate_metrics_aggr_fn) if used else None

    def _begin(self, server: dict[str, np.ndarray]) -> None:
        """Model, state and round: the saved ones, or those before the first round."""
        for name, leaf in server.items():
            if leaf.dtype.kind not in "iuf":
                raise UserError(
                    f"initial_arrays: expected floats or integers, got {leaf.dtype} in {name!r}. "
                    "Send such arrays as float32."
                )
        self._server, self._has_state, self.round = server, False, 0
        self._ensure_state()
        if self.state_file is not None and self.state_file.exists():
            saved = load_record(self.state_file, self._record())
            self.round, self._server, self._agg_state = saved.round, saved.arrays, saved.agg_state

    def _ensure_state(self) -> None:
        """The rule's first state, for who calls the strategy's functions without `start`."""
        if not self._has_state:
            self._agg_state = self.aggregator.init(self._parameters())
            self._has_state = True

    def _record(self) -> ServerRecord:
        return ServerRecord(self.round, self._name, self._server, self._agg_state)

    def _usable(
        self,
        what: str,
        replies: Iterable[Message],
        server: Mapping[str, np.ndarray] | None = None,
        cohort: Cohort | None = None,
    ) -> list[Reply]:
        """The replies that can be used, in the fixed order; each other one leaves a line in the log.

        Their arrays go to the cohort as they come and are not kept here.
        """
        used, unused = [], 0
        for message in replies:
            try:
                reply = read_reply(message, self._keys, server)
            except UnusableError as reason:
                unused += 1
                _log(WARNING, "%s: node %d is left out: %s", what, message.metadata.src_node_id, reason)
                continue
            if cohort is not None:
                cohort.add(reply.place, reply.arrays, reply.weight)
            used.append(reply._replace(arrays={}))
            del message, reply  # else two clients' arrays are here while the next reply is read
        if used or unused:
            _log(INFO, "%s: %d replies used, %d left out", what, len(used), unused)
        return sorted(used, key=lambda reply: reply.place)

    def _cohort(self) -> Cohort:
        """Of a round that begins."""
        params = self._parameters()
        if self._one_at_a_time:
            return Summed(self.aggregator, self._server, params)
        return Held(self.aggregator, self._server, params, self._clients)

    def _advance(self, number: int, cohort: Cohort) -> tuple[dict[str, np.ndarray], AggState]:
        """The server's half of a round: (the next model, the rule's next state)."""
        server, agg_state = cohort.finish(self._agg_state)
        for name, leaf in server.items():
            if not np.isfinite(leaf).all():
                raise RunError(
                    f"round {number}: expected {self._name} to give a finite model, got NaN or infinity in "
                    f"{name!r}. Lower the rates; the state file still holds the round before."
                )
        return server, agg_state

    def _parameters(self) -> dict[str, np.ndarray]:
        """The arrays that the rule moves."""

        def is_parameter(name: str, leaf: np.ndarray) -> bool:
            is_averaged = any(fnmatch.fnmatchcase(name, pattern) for pattern in self.averaged)
            return np.issubdtype(leaf.dtype, np.floating) and not is_averaged

        return {name: leaf for name, leaf in self._server.items() if is_parameter(name, leaf)}
