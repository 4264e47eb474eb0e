"""What the value of a setting may be: a Kind turns a given value into the stored one or refuses it.

A check takes (where, value), `where` naming the flag or the file and key for the message, and returns the
value to store. It raises a UserError `<where>: expected <what>, got <value!r>. <what to do>.`
"""

import ast
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from learned_aggregation.errors import UserError
from learned_aggregation.registry import Registry, is_outside, nearest

LONGEST = 400
"""Characters of a value that a message shows."""

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
        except (
            ValueError,
            SyntaxError,
            TypeError,
            RecursionError,
            MemoryError,
        ):  # whatever the text is, it is a text
            return text


def refuse(where: str, expected: str, value: Any, advice: str) -> NoReturn:
    raise UserError(" ".join(f"{where}: expected {expected}, got {brief(value)}. {advice}".split()))


def brief(value: Any) -> str:
    """What a message shows of a value: its beginning where it is long.

    Example:
      >>> brief("x" * 1000)[-24:]
      'xxx... (1002 characters)'
    """
    try:
        text = repr(value)
    except ValueError:  # an int of more digits than Python writes
        return f"a number of about {value.bit_length() * 3 // 10} digits"
    except RecursionError:
        return "a value nested too deeply to show"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}... ({len(text)} characters)"


def unknown(where: str, key: Any, known: Iterable[str], advice: str = "") -> NoReturn:
    """Refuses a key that is not among `known`, with the nearest one."""
    known = list(known)
    fallback = f"Use one of them: {', '.join(known)}." if len(known) < 20 else "--help lists them all."
    refuse(where, "a known key", key, advice or nearest(key, known).strip() or fallback)


def is_number(value: Any) -> bool:
    """Whether it is a number that a float can hold: an int or a finite float, no bool."""
    if type(value) not in (int, float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an int beyond every float
        return False


def python_value(value: Any) -> Any:
    """A NumPy scalar as Python's own number, text or switch, an array as a list; anything else as it is.

    A float32 becomes the shortest decimal that reads back as it: 0.1, not 0.10000000149011612.

    Example:
      >>> import numpy as np
      >>> [python_value(np.int64(3)), python_value(np.float32(0.1)), python_value(np.arange(2)), python_value("a")]
      [3, 0.1, [0, 1], 'a']
    """
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if type(value).__module__ != "numpy" or kind not in ("f", "i", "u", "b", "U"):
        return value
    if value.ndim:
        return [python_value(item) for item in value]
    return float(str(value)) if kind == "f" else value.item()


def whole(minimum: int, such_as: int, at_most: int = 2**31 - 1) -> Kind:
    """An int, below 2^31 where `at_most` says nothing; a float is none, not even 4.0.

    Args:
      at_most: what a machine can hold at best. Far beyond, JAX ends the process instead of saying that it cannot.
    """

    def check(where: str, value: Any) -> int:
        value = python_value(value)
        if type(value) is not int or not minimum <= value <= at_most:
            over = type(value) is int and value > minimum
            limit = (
                "" if not over else " and below 2^31" if at_most == 2**31 - 1 else f" and at most {at_most}"
            )
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
        value = python_value(value)
        if not is_number(value) or not inside(float(value)):
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
        value = plain(value)
        pair = value if isinstance(value, list) and len(value) == 2 else ()
        numbers = [x for x in pair if is_number(x) and x > 0]
        if len(numbers) != 2 or numbers[0] > numbers[1]:
            refuse(where, "two numbers above 0, the lower first", value, f"Give a range such as {such_as}.")
        return float(numbers[0]), float(numbers[1])

    return Kind(check, "LOW,HIGH")


def switch() -> Kind:
    def check(where: str, value: Any) -> bool:
        value = python_value(value)
        if type(value) is not bool:
            refuse(where, "True or False", value, "Write True or False, without quotes.")
        return value

    return Kind(check, "BOOL")


def choice(names: Callable[[], Iterable[str]]) -> Kind:
    """One of `names()`, which is called at the check, so that registries are imported no earlier.

    In the place of a registry's name `package.module:attribute` does as well; it is imported.
    """

    def check(where: str, value: Any) -> str:
        there, value = names(), python_value(value)
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


def check_path(where: str, value: Any, such_as: str) -> str:
    """A path that a file system here can hold, `~` replaced by the home directory.

    Raises:
      UserError: no text or none at all, a part of over 255 bytes, unprintable characters or bytes that are no text, an
        unknown home directory.
    """
    value = python_value(value)
    if not isinstance(value, str) or not value or not value.isprintable():
        refuse(where, "a path", value, f"Give a path such as {such_as!r}.")
    found = os.path.expanduser(value)
    if found.startswith("~"):
        refuse(where, "a path below a home directory that is known", value, "Write it without ~, or as ./~.")
    _check_storable(where, value, found)
    if max(len(os.fsencode(part)) for part in found.split("/")) > 255 or len(os.fsencode(found)) > 4000:
        refuse(where, "a path with parts of at most 255 bytes", value, "Give a shorter one.")
    return found


def _check_storable(where: str, value: str, text: str) -> None:
    """Refuses a name that the file system, or UTF-8, cannot hold: a locale's encoding may be neither."""
    try:
        os.fsencode(text)
        text.encode()
    except UnicodeEncodeError as error:
        expected = f"a name that can be written in {error.encoding}"
        refuse(where, expected, value, "Use other characters, or a UTF-8 locale (LC_ALL=C.UTF-8).")


def path(such_as: str) -> Kind:
    return Kind(lambda where, value: check_path(where, value, such_as), "PATH", literal=False)


def file_name(such_as: str, *, may_be_empty: bool = False) -> Kind:
    """Text that can be (part of) a directory's name."""

    def check(where: str, value: Any) -> str:
        value = python_value(value)
        ok = isinstance(value, str) and value.isprintable() and "/" not in value
        if ok:
            _check_storable(where, value, value)
        if not ok or len(value.encode()) > 200 or value in (".", "..") or not (value or may_be_empty):
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
    """A copy of Python's own values, dicts and lists only: equal settings compare equal whatever they came from."""
    value = python_value(value)
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


def options(
    where: str,
    value: Any,
    kinds: Mapping[str, Kind],
    defaults: Mapping[str, Any],
    such_as: str,
    besides: Sequence[str] = (),
) -> dict[str, Any]:
    """A setting that is a dict of options: those in `value`, checked, and the defaults of the others; {} stays {}.

    Args:
      kinds: of every option.
      besides: further keys of `value` that are left to the caller.
    Raises:
      UserError: no dict, an unknown key, a value out of its range.

    Example:
      >>> options("ae", {"size": 3}, {"size": whole(1, 8), "on": switch()}, {"size": 8, "on": True}, "dict(size=3)")
      {'size': 3, 'on': True}
    """
    changes = mapping(where, value, such_as)
    if not changes:
        return {}
    for key in changes:
        if key not in kinds and key not in besides:
            unknown(where, key, (*kinds, *besides))
    return {
        name: kind.check(f"{where}.{name}", changes.get(name, defaults[name])) for name, kind in kinds.items()
    }
