"""What `python -m learned_aggregation.export` is told of a card in texts NAME=VALUE."""

import contextlib
from collections.abc import Sequence

from learned_aggregation.config.kinds import is_number
from learned_aggregation.errors import UserError
from learned_aggregation.federated.clients import LOCAL_OPTIMIZERS
from learned_aggregation.json_text import parse_json
from learned_aggregation.pretrained.card import RANGES


def by_optimizer(flag: str, texts: Sequence[str]) -> dict[str, float]:
    """{clients' optimizer: number} of texts "OPTIMIZER=NUMBER".

    Args:
      flag: that gave them; it starts an error's message.
    Raises:
      UserError: an unknown optimizer, or no finite number above 0.

    Example:
      >>> by_optimizer("--suggest", ["sgd=0.2", "adamw=3e-3"])
      {'sgd': 0.2, 'adamw': 0.003}
    """
    return dict(_number(flag, text) for text in texts)


def _number(flag: str, text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    with contextlib.suppress(ValueError, TypeError):
        number = parse_json(value)
        if name in LOCAL_OPTIMIZERS and is_number(number) and number > 0:
            return name, number
    raise UserError(
        f"{flag}: expected OPTIMIZER=NUMBER with one of {', '.join(LOCAL_OPTIMIZERS)} and a finite number above 0, got "
        f"{text!r}. Write for example sgd=0.2."
    )


def ranges_of(texts: Sequence[str]) -> dict[str, list[float]]:
    """{name of RANGES: [lowest, highest]} of texts "NAME=LOW,HIGH" of --range.

    Raises:
      UserError: an unknown name, or no two finite numbers above 0 in their order.

    Example:
      >>> ranges_of(["num_grads=2,16"])
      {'num_grads': [2, 16]}
    """
    return dict(map(_range, texts))


def _range(text: str) -> tuple[str, list[float]]:
    name, _, span = text.partition("=")
    with contextlib.suppress(ValueError, TypeError):
        low, high = parse_json(f"[{span}]")
        if name in RANGES and is_number(low) and is_number(high) and 0 < low <= high:
            return name, [low, high]
    raise UserError(
        f"--range: expected NAME=LOW,HIGH with a NAME of {', '.join(RANGES)} and finite numbers, got {text!r}. "
        "Write for example num_grads=2,16."
    )
