"""The registry of objectives: what is learned from a data set, by what loss; one file an objective, one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from learned_aggregation.data import kind_of
from learned_aggregation.errors import UserError
from learned_aggregation.registry import Registry, nearest

if TYPE_CHECKING:  # listing names must not wait for JAX
    from learned_aggregation.data import Description
    from learned_aggregation.types import Task


class Objective(NamedTuple):
    """What a registered objective says of itself; it serves every data set of the kinds that it reads.

    kinds: the kinds of data that it reads, see `data.KINDS`.
    outputs: Description -> the number of outputs of the model that the task's name stands for.
    make: (name, model, dataset) -> Task. `model` is that flax module, called as model(x, train=bool). The objective
      may train it as it is, put it into a module of its own (an encoder with another head), or ignore it. The keys
      of the Task's `loss` and `evaluate` draw masks and noise: `loss` gets a fresh key at each local step, and each
      evaluation of a split gets the same keys, so that curves are paired.
    options: name -> default of the keyword arguments that `make` takes besides, the setting `objective_options`.
    """

    kinds: tuple[str, ...]
    outputs: Callable[[Description], int]
    make: Callable[..., Task]
    options: Mapping[str, Any] = {}


_HERE = "learned_aggregation.tasks.objectives"

OBJECTIVES = Registry(
    "objective",
    {
        "classification": f"{_HERE}.classification:OBJECTIVE",
        "finetuning": "learned_aggregation.ssl.finetuning:OBJECTIVE",
        "language_modelling": f"{_HERE}.language_modelling:OBJECTIVE",
        "localmim": "learned_aggregation.ssl.localmim:OBJECTIVE",
        "regression": f"{_HERE}.regression:OBJECTIVE",
        "siammae": "learned_aggregation.ssl.siamese_objective:OBJECTIVE",
        "tabular_classification": f"{_HERE}.tabular_classification:OBJECTIVE",
    },
)
"""Name -> Objective."""

USUAL = {
    "image": "classification",
    "text": "language_modelling",
    "table": "tabular_classification",
    "regression": "regression",
    "video": "siammae",
}
"""Kind of data -> the objective where none is asked for."""


def get_objective(name: str) -> Objective:
    """The objective of that name; a loss function from outside becomes one.

    Such a function is `(outputs, batch) -> losses [B]`, or -> {"loss": [B], ...} with further metrics of each example.
    It reads any data; the model has as many outputs as the usual objective of the data's kind asks for.
    """
    found = OBJECTIVES[name]
    if isinstance(found, Objective):
        return found
    from learned_aggregation.tasks.objectives.own_loss import own_loss

    return own_loss(found)


def objective_name(
    dataset: str, objective: str | None = None, where: str = "objective", kind: str | None = None
) -> str:
    """`objective`, or the usual one for the data set where it is None.

    Args:
      dataset: the name of a data set, such as `glyphs62rgb`.
      where: begins the message.
      kind: of its data, of `data.KINDS`; None for a data set of the package.
    Raises:
      UserError: an unknown objective, or one that does not read the data set's kind.

    Example:
      >>> objective_name("digits")
      'classification'
    """
    kind = kind or kind_of(dataset)
    if objective is None:
        return USUAL[kind]
    if kind not in get_objective(objective).kinds:
        fitting = ", ".join(name for name in OBJECTIVES if kind in get_objective(name).kinds)
        raise UserError(
            f"{where}: expected one that reads the kind {kind!r} of the data set {dataset} ({fitting}), "
            f"got {objective!r}. Leave it out for {USUAL[kind]}, or choose another data set."
        )
    return objective


def check_objective_options(
    name: str | None, options: Mapping[str, Any], where: str = "objective_options"
) -> None:
    """Refuses options that the objective does not have, or whose values are of another type than its defaults.

    Raises:
      UserError: naming the option.
    """
    known = {} if name is None else get_objective(name).options
    for option, value in options.items():
        if option not in known:
            there = nearest(option, known).strip() or f"It has {', '.join(known) or 'none'}."
            raise UserError(f"{where}: expected options of the objective {name}, got {option!r}. {there}")
        default = known[option]
        kinds = (int, float) if type(default) is float else (type(default),)
        if default is not None and type(value) not in kinds:
            kind = "a number" if type(default) is float else f"one like {default!r}"
            raise UserError(f"{where}.{option}: expected {kind}, got {value!r}. Change it.")
