"""Names to objects, resolved lazily so that listing names imports nothing.

What a name stands for can be brought from outside: `package.module:attribute` in the place of a registered name, or
`REGISTRY.register(name)` in a module that `custom_imports` names. Both run code, so both are for names that the user
wrote; a name that was read from a card, a checkpoint or a data file goes through `Registry.check_registered`.
"""

import difflib
import importlib
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
    """A ` Did you mean 'x'?` suffix for the nearest candidate, or the empty string."""
    matches = difflib.get_close_matches(str(name), list(candidates), n=1, cutoff=0.5)
    return f" Did you mean {matches[0]!r}?" if matches else ""


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
            return import_outside(*outside.groups(), where=self.kind)
        item = self._entries[self.check_registered(name)]
        if not isinstance(item, str):
            return item
        module, attribute = item.split(":")
        return getattr(importlib.import_module(module), attribute)

    def __contains__(self, name: object) -> bool:
        return name in self._entries or (self.kind, name) in _BROUGHT.get()

    def __iter__(self) -> Iterator[str]:
        brought_names = (name for kind, name in _BROUGHT.get() if kind == self.kind)
        return iter(dict.fromkeys((*self._entries, *brought_names)))

    def __len__(self) -> int:
        return len(list(iter(self)))


def _origin(item: Any) -> Any:
    """What two executions of one definition have in common."""
    return (
        item
        if isinstance(item, str)
        else (getattr(item, "__module__", None), getattr(item, "__qualname__", None))
    )
