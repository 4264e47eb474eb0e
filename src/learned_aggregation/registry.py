"""Names to objects, resolved lazily so that listing names imports nothing.

What a name stands for can be brought from outside: `package.module:attribute` in the place of a registered name, or
`REGISTRY.register(name)` in a module that `custom_imports` names. Both run code, so both are for names that the user
wrote; a name that was read from a card, a checkpoint or a data file goes through `Registry.check_registered`.
"""

import importlib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

from learned_aggregation.errors import UserError
from learned_aggregation.outside import import_outside

OUTSIDE = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)")
"""`package.module:attribute`."""

_NOTHING: Mapping[tuple[str, str], Any] = MappingProxyType({})
_BROUGHT: ContextVar[Mapping[tuple[str, str], Any]] = ContextVar("brought", default=_NOTHING)


def nearest(name: str, candidates: Iterable[str]) -> str:
    """A ` Did you mean 'x'?` suffix for the nearest candidate, or the empty string where none is near.

    Near is: the same words in another order or number, one name a part of the other's words, a name cut short, or at
    most a third of the letters changed (two letters that are swapped are one change). Text beyond 100 letters is near
    nothing.

    Example:
      >>> nearest("log_uniform", ["uniform", "q_uniform", "log_uniform_values"])
      " Did you mean 'log_uniform_values'?"
      >>> nearest("seed", ["base", "beta", "dropout"])
      ''
    """
    scored = [
        (found, i, known)
        for i, known in enumerate(candidates)
        if (found := _distance(str(name), known)) <= 1.0
    ]
    return f" Did you mean {min(scored)[2]!r}?" if scored else ""


def _distance(name: str, known: str) -> float:
    """0 for names that differ in nothing that is read; above 1 for names that are not near."""
    a, b = name.lower(), known.lower()
    longest = max(len(a), len(b))
    if not a or not b or longest > 100:
        return math.inf
    words_a, words_b = ([word for word in re.split(r"[^a-z0-9]+", text) if word] for text in (a, b))
    if sorted(words_a) == sorted(words_b) and words_a:
        return 0.0
    # The share of the longer name that the shorter one's words leave out.
    shared = sum(map(len, set(words_a) & set(words_b)))
    left_out = 1 - shared / longest
    by_words = math.inf
    if shared > 3 and set(words_a) <= set(words_b):
        by_words = 0.5 * left_out
    elif shared > 3 and set(words_b) <= set(words_a):  # it lacks a word that was asked for
        by_words = 0.9 * left_out
    if len(a) > 1 and b.startswith(a):  # cut short
        by_words = min(by_words, 0.95)
    count = _changes(a, b)
    if count >= min(len(a), len(b)) or (longest < 4 and count > 1):
        return by_words
    return min(by_words, count / max(1.0, longest / 3))


def _changes(a: str, b: str) -> int:
    """Letters to add, to leave out, to replace or to swap with their neighbour."""
    before, last = [], list(range(len(b) + 1))
    for i, x in enumerate(a):
        row = [i + 1]
        for j, y in enumerate(b):
            cost = min(last[j] + (x != y), last[j + 1] + 1, row[j] + 1)
            if i and j and x == b[j - 1] and a[i - 1] == y:
                cost = min(cost, before[j - 1] + 1)
            row.append(cost)
        before, last = last, row
    return last[-1]


def is_outside(name: object) -> bool:
    """Whether it reads `package.module:attribute`.

    Example:
      >>> is_outside("my_rules:damped"), is_outside("fedavg")
      (True, False)
    """
    return isinstance(name, str) and OUTSIDE.fullmatch(name) is not None


@contextmanager
def brought(objects: Mapping[tuple[str, str], Any]) -> Iterator[None]:
    """Within the context, in this thread, (kind, name) stands for the object: what the Python API is called with."""
    token = _BROUGHT.set({**_BROUGHT.get(), **objects})
    try:
        yield
    finally:
        _BROUGHT.reset(token)


class Registry(Mapping[str, Any]):
    """A mapping from a name to an object.

    Args:
      kind: what the names stand for, used in error messages ("optimizer", "data set").
      entries: name -> "package.module:attribute".
    Raises:
      UserError: on look-up of a name that is not registered, or of a module that cannot be imported.
    """

    def __init__(self, kind: str, entries: dict[str, str]):
        self.kind = kind
        self._entries: dict[str, Any] = dict(entries)

    def register(self, name: str) -> Callable[[Any], Any]:
        """A decorator that registers an object; a module that `custom_imports` names can use it.

        Raises:
          UserError: a name that is taken by another object, or that reads like one from outside.

        Example:
          >>> colours = Registry("colour", {})
          >>> @colours.register("red")
          ... def red():
          ...     return 0xFF0000
          >>> colours["red"]()
          16711680
        """

        def add(item: Any) -> Any:
            taken = self._entries.get(name)
            if not isinstance(name, str) or not name or ":" in name or "," in name:
                raise UserError(
                    f"{self.kind}: expected a name without colon and comma to register, got {name!r}. Rename it."
                )
            if taken is not None and _origin(taken) != _origin(item):  # a module may be executed again
                raise UserError(
                    f"{self.kind}: expected a name that is free to register, got {name!r}, which is taken. Rename it."
                )
            self._entries[name] = item
            return item

        return add

    def check(self, name: str) -> str:
        """Returns `name` if it stands for something; one from outside is imported for that.

        Raises:
          UserError: it does not.
        """
        if is_outside(name):
            self[name]
            return name
        return self.check_registered(name)

    def check_registered(self, name: str) -> str:
        """As `check`, for names that were read from a file: nothing from outside, nothing is imported."""
        if name not in self:
            raise UserError(
                f"{self.kind}: expected one of {', '.join(sorted(self))}, got {name!r}.{nearest(name, self)}"
            )
        return name

    def __getitem__(self, name: str) -> Any:
        if (item := _BROUGHT.get().get((self.kind, name))) is not None:
            return item
        outside = OUTSIDE.fullmatch(name) if isinstance(name, str) else None
        if outside:
            return self._usable(name, import_outside(*outside.groups(), where=self.kind))
        item = self._entries[self.check_registered(name)]
        if not isinstance(item, str):
            return item
        module, attribute = item.split(":")
        return getattr(importlib.import_module(module), attribute)

    def _usable(self, name: str, item: Any) -> Any:
        """A function, a class, or an object of the package's contracts, which are tuples; a number is none of them."""
        if callable(item) or isinstance(item, tuple) or hasattr(item, "apply"):
            return item
        raise UserError(
            f"{self.kind}: expected the name of a function, a class or an object of types.py, got {name!r}, which is "
            f"{item!r:.60}. Check the name."
        )

    def __contains__(self, name: object) -> bool:
        return name in self._entries or (self.kind, name) in _BROUGHT.get()

    def __iter__(self) -> Iterator[str]:
        brought_names = (name for kind, name in _BROUGHT.get() if kind == self.kind)
        return iter(dict.fromkeys((*self._entries, *brought_names)))

    def __len__(self) -> int:
        return len(list(iter(self)))


def checked(kind: str, name: str, made: Any, attributes: Iterable[str]) -> Any:
    """What the function of that name returned, if it has these attributes; functions of the user's may return anything.

    Raises:
      UserError: it has not.

    Example:
      >>> checked("optimizer", "fedavg", 3j, ["real", "imag"])
      3j
    """
    missing = [attribute for attribute in attributes if not hasattr(made, attribute)]
    if missing:
        raise UserError(
            f"{kind} {name}: expected a function that returns an object with {', '.join(attributes)}, got one that "
            f"returns {made!r:.60}. See the contracts of the package in types.py, and CONTRIBUTING for a skeleton."
        )
    return made


def _origin(item: Any) -> Any:
    """What two executions of one definition have in common."""
    return (
        item
        if isinstance(item, str)
        else (getattr(item, "__module__", None), getattr(item, "__qualname__", None))
    )
