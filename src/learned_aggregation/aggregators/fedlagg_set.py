"""`fedlagg-set`."""

from learned_aggregation.aggregators.learned.set_rule import set_rule
from learned_aggregation.types import Aggregator


def fedlagg_set(
    *,
    hidden_size: int,
    base: str = "momentum",
    base_learning_rate: float = 1.0,
    base_momentum: float = 0.6,
    strength: float = 1.0,
) -> Aggregator:
    """A learned aggregator for any K: equal for every order of the clients, with weights and missing clients.

    Instead of the K raw deltas the network reads symmetric statistics of them: weighted mean, spread and sign
    agreement, and how these relate to momenta, second moments and the last steps. It gates and corrects a
    classical step b, per scalar parameter:

    params <- params + trust(b * exp(1.5 * tanh(gain / 1.5)) - rms(b) * tanh(correction))

    with (gain, correction) the network's outputs, rms over the tensor, and trust(s) the step s shortened to at
    most 6 times the root mean square of the clients' deltas. The last layer starts at zero: an untrained one is
    its base rule. Everything it reads is free of units and of the number of clients.

    Args:
      hidden_size: width of the network's two hidden layers.
      base: "mean", "momentum" or "nesterov": see `make_base`; "bank": a sum of five classical steps whose weights for
        each tensor a second small network gives (`learned/bank.py`), a step then being at most 12 times the deltas'
        root mean square. Meta-trained on a mixture of problems, one on the mean
        did better than one on momentum (lagg-set's card).
      base_learning_rate, base_momentum: of the base; a bank's rate multiplies all five weights, and it has no momentum.
      strength: at least 0, multiplies the outputs of the learned networks; 0 is the base alone. Where theta was not
        meta-trained for what is at hand, less of it is safer: a card says how much by the clients' optimizer.
    Raises:
      UserError: an unknown base or "none", a rate or a strength out of its range.
    References:
      Learned Aggregation of this package; its per-parameter network and statistics are those of Joseph et al.,
      TMLR 2025, arXiv:2312.02204, and Metz et al., 2022, arXiv:2203.11860; symmetric in the clients as in
      Zaheer et al., "Deep Sets", 2017, arXiv:1703.06114.
    """
    return set_rule(
        "fedlagg-set",
        hidden_size=hidden_size,
        base=base,
        base_learning_rate=base_learning_rate,
        base_momentum=base_momentum,
        strength=strength,
    )
