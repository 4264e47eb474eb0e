"""The registry of aggregators: one file per rule, one line here."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from learned_aggregation.errors import UserError
from learned_aggregation.registry import Registry, checked, nearest

if TYPE_CHECKING:  # listing names must not wait for JAX
    from learned_aggregation.types import Aggregator

_HERE = "learned_aggregation.aggregators"

AGGREGATORS = Registry(
    "optimizer",
    {
        "fedlagg-adafac": f"{_HERE}.fedlagg_adafac:fedlagg_adafac",
        "fedlagg-set": f"{_HERE}.fedlagg_set:fedlagg_set",
        "fedlopt-adafac": f"{_HERE}.fedlopt_adafac:fedlopt_adafac",
        "fedlagg": f"{_HERE}.fedlagg:fedlagg",
        "fedlopt": f"{_HERE}.fedlopt:fedlopt",
        "fedlagg-wavg": f"{_HERE}.fedlagg_wavg:fedlagg_wavg",
        "fedavg": f"{_HERE}.fedavg:fedavg",
        "fedavg-slowmo": f"{_HERE}.fedavg_slowmo:fedavg_slowmo",
        "fedavgm": f"{_HERE}.fedavgm:fedavgm",
        "diloco": f"{_HERE}.diloco:diloco",
        "nesterov-decay": f"{_HERE}.nesterov_decay:nesterov_decay",
        "fedadam": f"{_HERE}.fedadam:fedadam",
        "fedyogi": f"{_HERE}.fedyogi:fedyogi",
        "fedadagrad": f"{_HERE}.fedadagrad:fedadagrad",
        "sgd": f"{_HERE}.sgd:sgd",
        "adam": f"{_HERE}.adam:adam",
    },
)


def accepted_options(name: str) -> list[str]:
    """The keyword arguments that the rule `name` takes."""
    return list(inspect.signature(AGGREGATORS[name]).parameters)


def option_defaults(name: str) -> dict[str, Any]:
    """The keyword arguments that the rule `name` takes, with their defaults; None for one that must be given."""
    parameters = inspect.signature(AGGREGATORS[name]).parameters
    return {p.name: None if p.default is p.empty else p.default for p in parameters.values()}


def option_kinds(name: str) -> dict[str, type]:
    """The keyword arguments that the rule `name` takes, with their types: int, float or str."""
    return {p.name: p.annotation for p in inspect.signature(AGGREGATORS[name]).parameters.values()}


def float_options(name: str) -> list[str]:
    """The keyword arguments of the rule `name` that are numbers, which may be traced and swept."""
    parameters = inspect.signature(AGGREGATORS[name]).parameters
    return [p.name for p in parameters.values() if p.annotation is float]


def get_aggregator(name: str, *, num_grads: int = 8, hidden_size: int = 32, **options: Any) -> Aggregator:
    """The aggregator registered as `name`.

    Args:
      num_grads: K, the clients of a round; only the rules that read raw deltas depend on it.
      hidden_size: width of a learned rule's network.
      **options: the rule's own arguments, such as `beta` of fedavg-slowmo; floats may be traced.
    Raises:
      UserError: unknown name or option, an option that is missing, num_grads or hidden_size below 1.
    """
    accepted = accepted_options(name)
    for option, value in (("num_grads", num_grads), ("hidden_size", hidden_size)):
        if not isinstance(value, int) or value < 1:
            raise UserError(f"{name}: expected {option} to be a whole number of at least 1, got {value!r}.")
    for option in options:
        if option not in accepted:
            raise UserError(
                f"{name}: expected options among {accepted}, got {option!r}.{nearest(option, accepted)}"
            )
    shared = {"num_grads": num_grads, "hidden_size": hidden_size}
    arguments = {k: v for k, v in shared.items() if k in accepted} | options
    parameters = inspect.signature(AGGREGATORS[name]).parameters.values()
    missing = [p.name for p in parameters if p.default is p.empty and p.name not in arguments]
    if missing:
        raise UserError(
            f"{name}: expected a value for {', '.join(missing)}, got none. Give it, as in {missing[0]}=0.1."
        )
    return checked("optimizer", name, AGGREGATORS[name](**arguments), ("init_theta", "init", "update"))
