"""`meta_train`, `benchmark` and `compare`: the jobs of the command line, called with objects."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from learned_aggregation import build, jobs
from learned_aggregation.api.bring import Bringing
from learned_aggregation.api.results import MetaTrained, Result
from learned_aggregation.config.resolve import Config, config_of, meta_train_name
from learned_aggregation.errors import UserError
from learned_aggregation.registry import brought
from learned_aggregation.runs.messages import silent
from learned_aggregation.types import Task

_ONE_RULE = (
    "optimizer",
    "num_grads",
    "hidden_size",
    "base",
    "base_learning_rate",
    "base_momentum",
    "rule_options",
)
"""The settings of a meta-training that say which rule theta is of."""


def meta_train(
    *,
    optimizer: str | Callable | None = None,
    task: str | Task | None = None,
    model: Any = None,
    data: Any = None,
    loss: str | Callable | None = None,
    size: int | None = None,
    verbose: bool = False,
    **settings: Any,
) -> MetaTrained:
    """Meta-trains a learned aggregator: `run_type="meta-train"`.

    Args:
      optimizer: a learned rule's name, or a function of its options (num_grads and hidden_size among them, if it takes
        them) that returns an Aggregator; None is fedlagg-adafac.
      task: a task's name, such as "mlp32_digits_8", or a Task of pure functions with its `data`.
      model: in the place of a task: a model's name, such as "mlp64x64"; a flax or equinox module, or its class or a
        function that makes it (called with those of `arguments`, `outputs` and `rngs` or `key` that it has); or a pair
        (init, apply) of functions.
      data: arrays by leaf, dict(image=[N, h, w, c], label=[N], client=[N]), whole or by part (train, valid, test);
        an entry of the setting `datasets`, dict(type="npz", path="mine.npz"); a data set's name; or a Dataset.
      loss: (outputs, batch) -> losses [B], or a dict of metrics of each example with "loss" among them; or an
        objective's name. None is the usual one for the data.
      size: the side of the images, tokens of a sequence or number of features; None is what the data has.
      verbose: print what the command line prints; False prints nothing.
      **settings: any of the settings, by their names: num_grads (K), num_local_steps (H), local_batch_size,
        num_outer_steps, from_checkpoint, run_dir, ... Functions may stand in the place of registered names.
    Returns:
      A MetaTrained: its curves, theta, and the aggregator ready for a loop.
    Raises:
      UserError: bad settings, data or objects, in one line.
      RunError: a run that could not go on.
      KeyboardInterrupt, SystemExit: a signal stopped it, after saving; the same call with from_checkpoint=True goes on.

    Example:
      >>> import tempfile, learned_aggregation as la
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     trained = la.meta_train(
      ...         task="mlp4_digits_8", hidden_size=4, num_outer_steps=2, num_tasks=2, num_grads=2, num_local_steps=1,
      ...         num_inner_steps=4, truncation_length=2, truncation_schedule_min_length=2, local_batch_size=4,
      ...         run_dir=f"{folder}/run", checkpoints_dir=f"{folder}/checkpoints",
      ...     )
      ...     len(trained.curves["meta_loss"]), trained.aggregator().clients
      (2, 2)
    """
    bringing = Bringing()
    given = _given("meta-train", bringing, optimizer, task, model, data, loss, size, settings)
    with brought(bringing.objects), silent(not verbose):
        config = config_of(given)
        directory = _finish(config, "meta_train")
        options = build.aggregator_options(config, build.rates_of(config))
        rule = {name: getattr(config, name) for name in _ONE_RULE}
        checkpoints = Path(config.checkpoints_dir) / meta_train_name(config)
        return MetaTrained(directory, checkpoints, rule, options, bringing.objects)


def benchmark(
    *,
    optimizer: str | Callable | MetaTrained,
    task: str | Task | None = None,
    model: Any = None,
    data: Any = None,
    loss: str | Callable | None = None,
    size: int | None = None,
    verbose: bool = False,
    **settings: Any,
) -> Result:
    """Runs one optimizer with `num_runs` seeds: `run_type="benchmark"`.

    Args:
      optimizer: a rule's name; a function of its options that returns an Aggregator; or what `meta_train` returned.
        Other learned rules need `test_checkpoint`.
      task, model, data, loss, size, verbose, **settings: as of `meta_train`.
    Returns:
      A Result: its curves.
    Raises:
      As `meta_train`.

    Example:
      >>> import tempfile, learned_aggregation as la
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     result = la.benchmark(
      ...         optimizer="fedavg", task="mlp4_digits_8", num_grads=2, num_inner_steps=3, num_runs=2,
      ...         local_batch_size=4, run_dir=f"{folder}/run",
      ...     )
      ...     result.curves.where(seed=1)["round"].tolist()
      [0.0, 1.0, 2.0, 3.0]
    """
    bringing = Bringing()
    if isinstance(optimizer, MetaTrained):
        bringing.objects |= optimizer.objects
        settings = optimizer.method() | settings
        optimizer = settings.pop("optimizer")
    given = _given("benchmark", bringing, optimizer, task, model, data, loss, size, settings)
    with brought(bringing.objects), silent(not verbose):
        return Result(_finish(config_of(given), "benchmark"))


def compare(
    entrants: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    *,
    task: str | Task | None = None,
    model: Any = None,
    data: Any = None,
    loss: str | Callable | None = None,
    size: int | None = None,
    verbose: bool = False,
    **settings: Any,
) -> Result:
    """Tunes and compares optimizers with the same seeds: `run_type="compare"`.

    Args:
      entrants: label -> a rule as `benchmark` takes it, or a dict of its settings with `optimizer` and, to be tuned,
        `sweep`: dict(local_learning_rate=[1.0, 0.5]); or a list of such dicts, each with its `label`. One must be
        fedavg, which sets the targets.
      task, model, data, loss, size, verbose, **settings: as of `meta_train`.
    Returns:
      A Result: its table, a row for each method, and its curves.
    Raises:
      As `meta_train`.

    Example:
      >>> import tempfile, learned_aggregation as la
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     result = la.compare(
      ...         {"FedAvg": "fedavg", "lagg-set": dict(optimizer="fedlagg-set", test_checkpoint="lagg-set")},
      ...         task="mlp4_digits_8", num_grads=2, num_inner_steps=4, num_runs=2, local_batch_size=4,
      ...         run_dir=f"{folder}/run",
      ...     )
      ...     result.table["entrant"].tolist()
      ['FedAvg', 'lagg-set']
    """
    bringing = Bringing()
    methods = _labelled(entrants)
    for method in methods:
        if isinstance(method.get("optimizer"), MetaTrained):
            trained = method.pop("optimizer")
            bringing.objects |= trained.objects
            # K is the comparison's: a theta of another K is refused there
            own = {name: value for name, value in trained.method().items() if name != "num_grads"}
            method |= {**own, **method}
    given = _given("compare", bringing, None, task, model, data, loss, size, settings)
    given |= {"entrants": [bringing.settings(method) for method in methods]}
    with brought(bringing.objects), silent(not verbose):
        return Result(_finish(config_of(given), "compare"))


def _labelled(entrants: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    if not isinstance(entrants, Mapping):
        if not isinstance(entrants, (list, tuple)) or not all(
            isinstance(entry, Mapping) for entry in entrants
        ):
            raise UserError(
                f"entrants: expected a dict of label -> rule, or a list of dicts with a label, got {entrants!r:.100}. "
                'Write for example {"FedAvg": "fedavg", "mine": trained}.'
            )
        return [dict(entry) for entry in entrants]
    return [
        {"label": label, **(entry if isinstance(entry, Mapping) else {"optimizer": entry})}
        for label, entry in entrants.items()
    ]


def _given(
    run_type: str, bringing: Bringing, optimizer: Any, task: Any, model: Any, data: Any, loss: Any, size: int | None,
    settings: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """The settings of a call, names in the place of objects."""
    if settings.get("run_type", run_type) != run_type:
        raise UserError(
            f"run_type: expected {run_type!r}, as the function says, got {settings['run_type']!r}. Leave it out."
        )
    if loss is not None and settings.get("objective") is not None:
        raise UserError("loss: expected loss or objective, got both. Leave one of them out.")
    named = {"optimizer": optimizer, "objective": loss}
    given = {**settings, **{name: value for name, value in named.items() if value is not None}}
    given |= bringing.task(task, model, data, size, settings.get("datasets") or {})
    return bringing.settings(given) | {"run_type": run_type}


def _finish(config: Config, function: str) -> Path:
    """The directory of the run; a signal that stopped it goes on as Python's own exception for it."""
    finished = jobs.finish(config, f"learned_aggregation.{function}(...)")
    if finished.status == 130:
        raise KeyboardInterrupt
    if finished.status or finished.path is None:
        raise SystemExit(finished.status)
    return finished.path
