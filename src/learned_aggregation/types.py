"""The vocabulary of the package: what crosses from one module to another.

Sizes in the annotations: K clients of a round, H local steps, B batch, C client population,
M rows of the largest client, N examples.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int

Key = jax.Array
"""A typed PRNG key (`jax.random.key`)."""
Params = Any
"""The model: a pytree of float arrays."""
ModelState = Any
"""What the model keeps besides params (running statistics); () for most."""
Theta = Any
"""Meta-parameters of an aggregator: a pytree of float arrays, () for a classical rule."""
AggState = Any
Message = Any
"""What one client sends: a pytree that decodes without its sender."""
Feedback = Any
"""What a client remembers of what it did not send, () for most compressors."""
Batch = dict[str, Array]
Metrics = dict[str, Array]

SPLITS = ("train", "inner_valid", "outer_valid", "test")


class Split(NamedTuple):
    """One split of a data set, on the host.

    examples: leaves [N, ...]; images are uint8, labels int32, features and targets of tables float32.
    clients: the natural client of each example (a writer, a font), or None.
    """

    examples: dict[str, np.ndarray]
    clients: np.ndarray | None = None


class Dataset(NamedTuple):
    """A data set on the host. Stored images become inputs as `image * scale - shift`, numbers or one per channel.

    num_classes: of the labels; the vocabulary's size for text; 0 for a regression, which has none.
    """

    name: str
    splits: dict[str, Split]
    num_classes: int
    scale: float | tuple[float, ...] = 1.0
    shift: float | tuple[float, ...] = 0.0


class FederatedData(NamedTuple):
    """One split on the device, or a window of it, divided over clients: an argument of the jitted step.

    examples: leaves [N, ...].
    rows: example ids of each client, cyclically padded to the largest client.
    sizes: the number of examples of each client (its weight); in a window, of all that the client has.
    """

    examples: dict[str, Array]
    rows: Int[Array, "C M"]
    sizes: Int[Array, "C"]


class Metric(NamedTuple):
    """What a number says: its direction and its unit.

    higher_is_better: whether more of it is better.
    unit: "nats", "bits", "dB", ...; "%" for a fraction that tables and plots show in per cent (files keep the
      fraction); "" for any other pure number.
    """

    name: str
    higher_is_better: bool = False
    unit: str = ""


class Traffic(NamedTuple):
    """What one client of a round exchanges with the server: bits per client per round, exact.

    up: from the client to the server. down: from the server to the client.
    """

    up: float
    down: float


class Prefix(NamedTuple):
    """What the first layers of a model make of an example; where they are frozen it is computed once and kept.

    layers: how many layers it depends on, as FreezeOut counts them: the embedding is one.
    fields: (params, batch) -> further fields of the batch, leaves [B, ...]; `loss` of a batch that has them does
      without those layers, and is the same to rounding.
    """

    layers: int
    fields: Callable[[Params, Batch], Batch]


class Task(NamedTuple):
    """An inner problem's model and loss, independent of the data behind it.

    init: key -> (params, model_state).
    loss: (params, model_state, key, batch) -> (mean loss [], (model_state, metrics)); training mode.
    evaluate: (params, model_state, key, batch) -> metrics of each example, leaves [B], one of them "loss"; test mode.
      The key draws what the objective draws (masks, noise); most objectives ignore it.
    loss_cap: the meta-loss is clipped to [0, loss_cap] and NaN becomes loss_cap, so that one diverging problem cannot
      drown the others; 1.5 ln C for C classes. None: the meta-loss is taken as it is.
    metrics: of what `evaluate` returns, the loss first; one that is not listed has no unit and is better lower.
    features: (params, model_state, batch) -> [B, D], what probes learn from; None for a task without.
    pictures: (params, key, batch) -> uint8 [B, columns, h, w, 3] for the report, made on the host; None for a task
      without.
    prefix: of a task whose first layers see an example alone, without what the key draws; None for others.
    """

    name: str
    init: Callable[[Key], tuple[Params, ModelState]]
    loss: Callable[[Params, ModelState, Key, Batch], tuple[Float[Array, ""], tuple[ModelState, Metrics]]]
    evaluate: Callable[[Params, ModelState, Key, Batch], Metrics]
    loss_cap: float | None
    metrics: tuple[Metric, ...] = (Metric("loss"),)
    features: Callable[[Params, ModelState, Batch], Float[Array, "B D"]] | None = None
    pictures: Callable[[Params, Key, Batch], np.ndarray] | None = None
    prefix: Prefix | None = None


class ClientUpdate(NamedTuple):
    """What a cohort of K clients sends to the server.

    delta: client minus server parameters, leaves [K, ...].
    model_state: the model's state as the cohort leaves it, leaves [...]: the clients' mean for most client work.
    loss: each client's mean training loss over the local steps.
    weight: share of each client in the average (need not sum to 1); 0 for one that dropped out.
    """

    delta: Params
    model_state: ModelState
    loss: Float[Array, "K"]
    weight: Float[Array, "K"]


class Compressor(NamedTuple):
    """What crosses the wire from ONE client, and what the client remembers of the rest; the round vmaps it.

    init: params or their shapes -> feedback (() for a compressor that remembers nothing).
    encode: (delta, feedback, key) -> (message, feedback); delta is any pytree of float arrays.
    decode: message -> delta as the server sees it, with the shapes and dtypes of what was encoded.
    bits: params or their shapes -> the bits that a message takes on a wire, exact.
    """

    init: Callable[[Params], Feedback]
    encode: Callable[[Params, Feedback, Key], tuple[Message, Feedback]]
    decode: Callable[[Message], Params]
    bits: Callable[[Params], float]


class Sums(NamedTuple):
    """A rule that takes a round's clients one at a time, in any order, in memory that does not grow with them.

    start: params -> the partial sums of no client.
    add: (partial sums, one client's delta shaped like params, its weight []) -> partial sums. Weights are any numbers
      of at least 0; a client of weight 0 leaves no trace, also of a NaN.
    finish: (theta, partial sums, agg_state, params) -> (step to ADD to params, agg_state): what `update` gives from all
      the deltas at once, but for rounding.
    """

    start: Callable[[Params], Any]
    add: Callable[[Any, Params, Float[Array, ""]], Any]
    finish: Callable[[Theta, Any, AggState, Params], tuple[Params, AggState]]


class Aggregator(NamedTuple):
    """A server-side rule, learned or classical.

    init_theta: key -> theta (() for a classical rule).
    init: (theta, params) -> agg_state.
    update: (theta, client_update, agg_state, params) -> (step to ADD to params, agg_state).
    num_clients: the K that theta is made for; None: any.
    sums: the rule from one client at a time; None for one that needs all deltas at once. What wraps `update` wraps it
      too, or sets it to None.
    """

    init_theta: Callable[[Key], Theta]
    init: Callable[[Theta, Params], AggState]
    update: Callable[[Theta, ClientUpdate, AggState, Params], tuple[Params, AggState]]
    num_clients: int | None = None
    sums: Sums | None = None


class ClientState(NamedTuple):
    """What one client keeps between the rounds that it takes part in; in `Server`, leaves [C, ...].

    work: the client work's, such as an optimizer's state; feedback: the compressor's.
    """

    work: Any
    feedback: Any


class Server(NamedTuple):
    """All that a round reads and writes.

    clients: leaves [C, ...], one row for each client of the population, at its id.
    feedback: the server compressor's; work: the server work's state.
    """

    params: Params
    model_state: ModelState
    agg_state: AggState
    clients: ClientState
    feedback: Any = ()
    work: Any = ()


class ClientWork(NamedTuple):
    """What a cohort does with the server's model.

    init: params -> one client's state between rounds; () for none. It is kept for all C clients of the population.
    run: (server, batches [K, H, B, ...], weight [K], the cohort's states, leaves [K, ...], key) ->
      (client_update, states). What a client of weight 0 returns is not looked at: it has dropped out.
    traffic: params -> what crosses besides the model down and its delta up, which the compressors count.
    rebuild: (task, scale) -> the same work on another task, its local updates times `scale`, a tree like params of
      floats, or of schedules from the local optimizer's count (None: as they are); what wrappers of Parts use.
    """

    init: Callable[[Params], Any]
    run: Callable[[Server, Batch, Float[Array, "K"], Any, Key], tuple[ClientUpdate, Any]]
    traffic: Callable[[Params], Traffic]
    rebuild: Callable[[Task, Params | None], "ClientWork"]


class ServerWork(NamedTuple):
    """What the server does after the aggregation.

    init: params -> its state.
    run: (the server as the aggregator left it, client_update, key) -> server.
    """

    init: Callable[[Params], Any]
    run: Callable[[Server, ClientUpdate, Key], Server]


class Parts(NamedTuple):
    """The parts of a federated round; a technique is a new part, or a function Parts -> Parts.

    compressor: of each client's delta, on its way up. server_compressor: of the server's step, on its way down.
    """

    task: Task
    clients: ClientWork
    compressor: Compressor
    aggregator: Aggregator
    server_work: ServerWork
    server_compressor: Compressor


class InnerProblem(NamedTuple):
    """All that an estimator may see of an inner problem.

    reset: (theta, data, key) -> state at the start of an episode.
    advance: (theta, state, data, key) -> (state one round later, meta-loss of that round []).
    """

    reset: Callable[[Theta, Any, Key], Any]
    advance: Callable[[Theta, Any, Any, Key], tuple[Any, Float[Array, ""]]]


class GradientEstimator(NamedTuple):
    """Estimates the meta-gradient from ONE inner problem; meta_train maps it over T of them.

    init: (theta, data, key) -> estimator state.
    estimate: (theta, state, data, key) -> (gradient shaped like theta, state, metrics).
    arms: unrolls of the inner problem side by side in an estimate: 2 for an antithetic pair.
    """

    init: Callable[[Theta, Any, Key], Any]
    estimate: Callable[[Theta, Any, Any, Key], tuple[Theta, Any, Metrics]]
    arms: int = 2


class MetaState(NamedTuple):
    """The whole of a meta-training run; a checkpoint holds exactly this.

    validation: a meta_validation.Best; () where nothing is validated.
    """

    theta: Theta
    opt_state: Any
    estimator_states: Any
    key: Key
    step: Int[Array, ""]
    validation: Any = ()
