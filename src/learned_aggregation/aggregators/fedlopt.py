"""`fedlopt`."""

from learned_aggregation.aggregators.learned.fast import fast_plain
from learned_aggregation.types import Aggregator


def fedlopt(
    *,
    num_grads: int,
    hidden_size: int,
    base: str = "none",
    base_learning_rate: float = 1.0,
    base_momentum: float = 0.5,
) -> Aggregator:
    """LOpt: the mean client delta through one small network, without accumulators.

    params <- params - 0.001 * direction * exp(0.001 * magnitude), (direction, magnitude) the network's two
    outputs for each scalar parameter. 2 + 11 = 13 inputs, for any K.

    Args:
      num_grads: K, the clients of a round.
      hidden_size: width of the network's two hidden layers.
      base: "none" is the published form; "mean", "momentum" and "nesterov" put a classical rule b under the
        network, which then corrects it: params <- params + b - rms(b) * direction * exp(0.1 * magnitude).
      base_learning_rate, base_momentum: of that rule; see `make_base`.
    Raises:
      UserError: an unknown base, a rate out of its range; at update, another number of clients than a fixed K.
    References:
      Joseph et al., "Meta-learning Optimizers for Communication-Efficient Learning", TMLR 2025,
      arXiv:2312.02204.
    """
    return fast_plain(
        "fedlopt",
        "mean",
        num_grads=num_grads,
        hidden_size=hidden_size,
        base=base,
        base_learning_rate=base_learning_rate,
        base_momentum=base_momentum,
    )
