"""The registry of compressors: one file each, one line here; and the error feedback around any of them."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from learned_aggregation.errors import UserError
from learned_aggregation.registry import Registry, checked, nearest

if TYPE_CHECKING:  # listing names must not wait for JAX
    from learned_aggregation.types import Compressor

_HERE = "learned_aggregation.federated.compressors"

COMPRESSORS = Registry(
    "compressor",
    {
        "none": f"{_HERE}.none:none",
        "topk": f"{_HERE}.topk:topk",
        "randk": f"{_HERE}.randk:randk",
        "signsgd": f"{_HERE}.signsgd:signsgd",
        "qsgd": f"{_HERE}.qsgd:qsgd",
        "statistical": f"{_HERE}.statistical:statistical",
        "powersgd": f"{_HERE}.powersgd:powersgd",
        "sparseloco": f"{_HERE}.sparseloco:sparseloco",
    },
)
"""name -> (options) -> types.Compressor."""

ERROR_FEEDBACK = Registry(
    "error_feedback",
    {
        "none": f"{_HERE}.error_feedback:no_feedback",
        "ef14": f"{_HERE}.error_feedback:ef14",
        "ef21": f"{_HERE}.error_feedback:ef21",
    },
)
"""name -> (types.Compressor, options) -> types.Compressor."""


def accepted_options(name: str) -> list[str]:
    """The keyword arguments that the compressor `name` takes."""
    return list(inspect.signature(COMPRESSORS[name]).parameters)


def get_compressor(
    name: str, *, error_feedback: str = "none", feedback_decay: float = 1.0, **options: Any
) -> Compressor:
    """The compressor registered as `name`, with error feedback if asked.

    Args:
      error_feedback: "none", "ef14" (the part that was not sent is added to the next delta) or "ef21" (what is
        sent is the difference from what the server has already).
      feedback_decay: what "ef14" multiplies its memory by before it adds it, in [0, 1]; may be traced.
      **options: the compressor's, such as `fraction` of topk; they set shapes and are static.
    Raises:
      UserError: unknown name or option, an option that is missing or out of range, a decay without "ef14".
    Example:
      >>> import jax, jax.numpy as jnp
      >>> from learned_aggregation import get_compressor
      >>> compressor = get_compressor("topk", fraction=0.25, error_feedback="ef14")
      >>> delta = {"w": jnp.array([3.0, -1.0, 0.5, -8.0])}
      >>> message, feedback = compressor.encode(delta, compressor.init(delta), jax.random.key(0))
      >>> compressor.decode(message)["w"].tolist()
      [0.0, 0.0, 0.0, -8.0]
      >>> feedback.memory["w"].tolist()
      [3.0, -1.0, 0.5, 0.0]
      >>> compressor.bits(delta)
      34.0
    """
    accepted = accepted_options(name)
    known = [*accepted, "error_feedback", "feedback_decay"]
    for option in options:
        if option not in accepted:
            raise UserError(
                f"{name}: expected options among {known}, got {option!r}.{nearest(option, known)}"
            )
    parameters = inspect.signature(COMPRESSORS[name]).parameters.values()
    missing = [p.name for p in parameters if p.default is p.empty and p.name not in options]
    if missing:
        raise UserError(f"{name}: expected a value for {', '.join(missing)}, got none. Pass {missing[0]}=...")
    wrap = ERROR_FEEDBACK[error_feedback]
    plain = checked("compressor", name, COMPRESSORS[name](**options), ("init", "encode", "decode", "bits"))
    if "feedback_decay" in inspect.signature(wrap).parameters:
        return wrap(plain, feedback_decay=feedback_decay)
    if isinstance(feedback_decay, (int, float)) and feedback_decay != 1.0:
        raise UserError(
            f"{name}: expected feedback_decay only with error_feedback 'ef14', got {feedback_decay!r} with "
            f"{error_feedback!r}. Leave it out."
        )
    return wrap(plain)
