"""What the value of a setting may be: a Kind turns a given value into the stored one or refuses it.

A check takes (where, value), `where` naming the flag or the file and key for the message, and returns the
value to store. It raises a UserError `<where>: expected <what>, got <value!r>. <what to do>.`
"""

import ast
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, NoReturn

from learned_aggregation.errors import UserError
from learned_aggregation.registry import Registry, is_outside, nearest

Check = Callable[[str, Any], Any]


class Kind(NamedTuple):
    """check: see above. metavar: the value's name in --help. literal: a flag's text is read as Python."""

    check: Check
    metavar: str
    literal: bool = True

    def read(self, text: str) -> Any:
        """The value that a flag's text stands for, not yet checked."""
        if text in ("None", "none"):
            return None
        if not self.literal:
            return text
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return text


def refuse(where: str, expected: str, value: Any, advice: str) -> NoReturn:
    raise UserError(" ".join(f"{where}: expected {expected}, got {value!r}. {advice}".split()))


def unknown(where: str, key: Any, known: Iterable[str], advice: str = "") -> NoReturn:
    """Refuses a key that is not among `known`, with the nearest one."""
    known = list(known)
    fallback = f"Use one of them: {', '.join(known)}." if len(known) < 20 else "--help lists them all."
    refuse(where, "a known key", key, advice or nearest(key, known).strip() or fallback)


def whole(minimum: int, such_as: int) -> Kind:
    """An int below 2^31; a float is none, not even 4.0."""

    def check(where: str, value: Any) -> int:
        if type(value) is not int or not minimum <= value < 2**31:
            limit = " and below 2^31" if type(value) is int and value > minimum else ""
            advice = f"Give a whole number such as {such_as}."
            refuse(where, f"a whole number of at least {minimum}{limit}", value, advice)
        return value

    return Kind(check, "N")


def number(expected: str, inside: Callable[[float], bool], such_as: float) -> Kind:
    """A finite float; whole numbers are taken for floats.

    Args:
      expected: the allowed range in words: "a number above 0".
      inside: whether a number is in it.
    """

    def check(where: str, value: Any) -> float:
        if type(value) not in (int, float) or not math.isfinite(value) or not inside(value):
            refuse(where, expected, value, f"Give a number such as {such_as:g}.")
        return float(value)

    return Kind(check, "X")


def positive(such_as: float) -> Kind:
    return number("a number above 0", lambda x: x > 0, such_as)


def non_negative(such_as: float) -> Kind:
    return number("a number of at least 0", lambda x: x >= 0, such_as)


def fraction(such_as: float) -> Kind:
    return number("a number in [0, 1)", lambda x: 0 <= x < 1, such_as)


def interval(such_as: tuple[float, float]) -> Kind:
    """Two numbers (low, high), 0 < low <= high; stored as a tuple."""

    def check(where: str, value: Any) -> tuple[float, float]:
        pair = value if isinstance(value, (list, tuple)) and len(value) == 2 else ()
        numbers = [x for x in pair if type(x) in (int, float) and math.isfinite(x) and x > 0]
        if len(numbers) != 2 or numbers[0] > numbers[1]:
            refuse(where, "two numbers above 0, the lower first", value, f"Give a range such as {such_as}.")
        return float(numbers[0]), float(numbers[1])

    return Kind(check, "LOW,HIGH")


def switch() -> Kind:
    def check(where: str, value: Any) -> bool:
        if type(value) is not bool:
            refuse(where, "True or False", value, "Write True or False, without quotes.")
        return value

    return Kind(check, "BOOL")


def choice(names: Callable[[], Iterable[str]]) -> Kind:
    """One of `names()`, which is called at the check, so that registries are imported no earlier.

    In the place of a registry's name `package.module:attribute` does as well; it is imported.
    """

    def check(where: str, value: Any) -> str:
        there = names()
        if isinstance(there, Registry) and is_outside(value):
            return _from_outside(where, there, value)
        known = list(there)
        if value not in known:
            refuse(
                where,
                f"one of {', '.join(known)}",
                value,
                nearest(value, known).strip() or "Choose one of these.",
            )
        return value

    return Kind(check, "NAME", literal=False)


def _from_outside(where: str, registry: Registry, name: str) -> str:
    try:
        return registry.check(name)
    except UserError as error:
        raise UserError(f"{where}: {str(error).removeprefix(f'{registry.kind}: ')}") from None


def path(such_as: str) -> Kind:
    def check(where: str, value: Any) -> str:
        if not isinstance(value, str) or not value or "\0" in value:
            refuse(where, "a path", value, f"Give a path such as {such_as!r}.")
        return value

    return Kind(check, "PATH", literal=False)


def file_name(such_as: str, *, may_be_empty: bool = False) -> Kind:
    """Text that can be (part of) a directory's name."""

    def check(where: str, value: Any) -> str:
        ok = (
            isinstance(value, str) and value.isprintable() and "/" not in value and len(value.encode()) <= 200
        )
        if not ok or value in (".", "..") or not (value or may_be_empty):
            refuse(
                where,
                "a name of at most 200 bytes without slashes",
                value,
                f"Give a name such as {such_as!r}.",
            )
        return value

    return Kind(check, "NAME", literal=False)


def names(check_name: Check, *, what: str, such_as: str) -> Kind:
    """Names, given as one, as a comma list or as a list; stored as a tuple. `check_name` checks one of them."""

    def check(where: str, value: Any) -> tuple[str, ...]:
        parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
        if not isinstance(parts, (list, tuple)) or not all(isinstance(part, str) for part in parts):
            refuse(where, what, value, f"Give names such as {such_as!r}.")
        checked = tuple(check_name(where, part) for part in parts if part)
        if len(set(checked)) < len(checked):
            refuse(where, f"{what}, each once", value, "Remove the repetition.")
        return checked

    return Kind(check, "NAME[,NAME]", literal=False)


def optional(kind: Kind) -> Kind:
    """None or what `kind` admits."""
    return kind._replace(check=lambda where, value: None if value is None else kind.check(where, value))


def plain(value: Any) -> Any:
    """A copy made of dict and list only, so that equal settings compare equal whatever they came from."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def mapping(where: str, value: Any, such_as: str) -> dict[str, Any]:
    """A plain dict with text keys, or a UserError."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        refuse(where, "a dict", value, f"Write it as {such_as}.")
    return plain(value)
