"""Names to constructors, resolved lazily so that listing names imports nothing."""

import difflib
import importlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from learned_aggregation.errors import UserError


def nearest(name: str, candidates: Iterable[str]) -> str:
    """A ` Did you mean 'x'?` suffix for the nearest candidate, or the empty string."""
    matches = difflib.get_close_matches(str(name), list(candidates), n=1, cutoff=0.5)
    return f" Did you mean {matches[0]!r}?" if matches else ""


class Registry(Mapping[str, Any]):
    """A read-only mapping from a name to the object at `module:attribute`.

    Args:
      kind: what the names stand for, used in error messages ("optimizer", "data set").
      entries: name -> "package.module:attribute".
    Raises:
      UserError: on look-up of a name that is not registered.
    """

    def __init__(self, kind: str, entries: dict[str, str]):
        self.kind = kind
        self._entries = dict(entries)

    def check(self, name: str) -> str:
        """Returns `name` if it is registered and raises a UserError otherwise."""
        if name not in self._entries:
            raise UserError(
                f"{self.kind}: expected one of {', '.join(sorted(self._entries))}, "
                f"got {name!r}.{nearest(name, self._entries)}"
            )
        return name

    def __getitem__(self, name: str) -> Any:
        module, attribute = self._entries[self.check(name)].split(":")
        return getattr(importlib.import_module(module), attribute)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
