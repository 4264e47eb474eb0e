"""From what a model's name stands for to a model: called with what it asks for by name."""

import functools
import inspect
from typing import Any

from learned_aggregation.errors import UserError

KEYS = ("rngs", "key")
"""Arguments by which a constructor of flax.nnx, or of equinox, asks for the random numbers of its weights."""


def construct(item: Any, arguments: str, outputs: int) -> Any:
    """The model that an item of MODELS makes, in one of the forms that `adapters.as_model` takes.

    Args:
      item: a function or class, called with those of `arguments`, `outputs` and `num_classes` (the same) that it has;
        one that also has `rngs` or `key` is called when weights are drawn. Or a model that is made already.
      arguments: what follows the family's name in the task's: "64x64" of mlp64x64.
      outputs: the numbers that the loss needs of an example: the classes, the targets.
    Raises:
      UserError: it asks for something else.

    Example:
      >>> construct(lambda outputs: f"a net with {outputs} outputs", "", 10)
      'a net with 10 outputs'
    """
    if not (inspect.isclass(item) or inspect.isroutine(item) or isinstance(item, functools.partial)):
        return item
    offered = {"arguments": arguments, "outputs": outputs, "num_classes": outputs}
    parameters = parameters_of(item)
    asked = {p.name: offered[p.name] for p in parameters if p.name in offered}
    needed = [
        p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if strange := [name for name in needed if name not in (*offered, *KEYS)]:
        raise UserError(
            f"model {getattr(item, '__name__', item)}: expected one that is made from {', '.join((*offered, *KEYS))}, "
            f"got one that needs {', '.join(strange)}. Give it a default, or name a function that makes it."
        )
    drawn = any(p.name in KEYS for p in parameters)
    return functools.partial(item, **asked) if drawn else item(**asked)


def parameters_of(item: Any) -> list[inspect.Parameter]:
    """What a function, a class or a partial of one is still to be called with."""
    if isinstance(item, functools.partial):
        taken = len(item.args)
        return [p for p in parameters_of(item.func)[taken:] if p.name not in item.keywords]
    if not inspect.isclass(item):
        return list(inspect.signature(item).parameters.values())
    # Not of the class itself: the metaclasses of flax.nnx and equinox hide it.
    return list(inspect.signature(item.__init__).parameters.values())[1:]
