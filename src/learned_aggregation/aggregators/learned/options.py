"""The options of the learned rules of the published form, said once."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from learned_aggregation.aggregators.learned.base import Base, make_base
from learned_aggregation.types import Aggregator


class LearnedOptions(NamedTuple):
    """What a learned rule is made with; the two rates may be traced.

    num_grads: K, the clients of a round.
    hidden_size: width of the network's two hidden layers.
    base: "none" is the published form; "mean", "momentum" and "nesterov" put a classical rule b under the network,
      which then corrects it: params <- params + b - rms(b) * direction * exp(0.1 * magnitude).
    base_learning_rate, base_momentum: of that rule; see `make_base`.

    Example:
      >>> LearnedOptions(num_grads=8, hidden_size=32).rates
      (1.0, 0.5)
    """

    num_grads: int
    hidden_size: int
    base: str = "none"
    base_learning_rate: float = 1.0
    base_momentum: float = 0.5

    @property
    def rates(self) -> tuple[Any, Any]:
        """(base_learning_rate, base_momentum)."""
        return self.base_learning_rate, self.base_momentum

    def base_rule(self, where: str, rates: tuple[Any, Any] | None = None) -> Base | None:
        """The base; None for "none". `rates` take the place of its own: a derivative rule passes them as arguments.

        Raises:
          UserError: naming `where`: an unknown base, a rate out of its range.
        """
        return make_base(where, self.base, *(rates or self.rates))


def learned_rule(rule: Callable[[LearnedOptions], Aggregator]) -> Callable[..., Aggregator]:
    """A rule of LearnedOptions as the registry takes it: with their fields as its keyword arguments.

    Its signature is that of a function that lists them, types and defaults included.

    Example:
      >>> from learned_aggregation.aggregators import AGGREGATORS
      >>> inspect.signature(AGGREGATORS["fedlopt"]).parameters["base_momentum"].default
      0.5
    """

    @functools.wraps(rule)
    def by_keyword(**options: Any) -> Aggregator:
        return rule(LearnedOptions(**options))

    fields = inspect.signature(LearnedOptions).parameters.values()
    parameters = [field.replace(kind=inspect.Parameter.KEYWORD_ONLY) for field in fields]
    signature = inspect.Signature(parameters, return_annotation=Aggregator)
    by_keyword.__signature__ = signature  # pyright: ignore[reportAttributeAccessIssue]
    by_keyword.__annotations__ = {**LearnedOptions.__annotations__, "return": Aggregator}
    return by_keyword
