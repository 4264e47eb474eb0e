"""JSON that others may have written, or that a disk has damaged: values, or one kind of error."""

import json
import math
from typing import Any, NoReturn


def parse_json(text: str | bytes, *, finite: bool = True) -> Any:
    """The value of a JSON text.

    Args:
      finite: refuse NaN, infinities and numbers beyond a float, which JSON does not know.
    Raises:
      ValueError: whatever is wrong with it, nesting beyond Python's stack and text that is no UTF-8 included.
    Example:
      >>> parse_json("[" * 100000)
      Traceback (most recent call last):
      ValueError: nested too deeply
    """
    try:
        if not finite:
            return json.loads(text)
        return json.loads(text, parse_constant=_no_number, parse_float=_float, parse_int=_int)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no finite number")


def _float(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text)


def _int(text: str) -> int:
    if len(text) > 300:  # beyond a float, and maybe beyond what Python reads
        _no_number(f"{text[:20]}...")
    return int(text)
