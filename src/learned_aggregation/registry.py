"""Names to constructors, resolved lazily so that listing names imports nothing."""

import importlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from learned_aggregation.errors import UserError


def nearest(name: str, candidates: Iterable[str]) -> str:
    """A ` Did you mean 'x'?` suffix for the nearest candidate, or the empty string where none is near.

    Near is: the same words in another order or number, one name a part of the other's words, or at most a third of the
    letters changed (two letters that are swapped are one change). Text beyond 100 letters is near nothing.

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
