"""Which examples a window of a stream holds, and where: pure functions of the seed and the window's number.

Every random number is a hash of (seed, client, position), so that any window can be made at any time, by any
thread, without the windows before it.
"""

from typing import NamedTuple

import numpy as np

_STEP = np.uint64(0x9E3779B97F4A7C15)
_ROUNDS = 8  # with 6 the places of 10 examples are visibly uneven


class Plan(NamedTuple):
    """How C clients share a window. A client's examples, shuffled anew for each epoch, are an endless sequence; its
    part of window s are the m places from s*f on, and place p lies in slot p mod m of that part.

    ids: example ids, int64 [N], the clients' one after the other.
    sizes: the number of examples of each client, int64 [C].
    held: m, the examples of each client in a window, int64 [C].
    fresh: f, how many of them are new in the next window, int64 [C].
    """

    ids: np.ndarray
    sizes: np.ndarray
    held: np.ndarray
    fresh: np.ndarray
    seed: int


class Places(NamedTuple):
    """Examples of a window, int64 [F]: their slots in it, their ids, and a random number of each, uint64."""

    slots: np.ndarray
    ids: np.ndarray
    random: np.ndarray


def plan(rows: list[np.ndarray], window: int, fresh: int, seed: int, *, always: bool = False) -> Plan:
    """The plan for windows of `window` examples per client, `fresh` of them new each time.

    Clients with no more examples than that are in every window whole, and nothing of them is ever new, unless
    `always` says so (they are augmented anew).
    """
    sizes = np.array([len(ids) for ids in rows], np.int64)
    held = np.minimum(sizes, window)
    new = np.minimum(held, fresh) if always else np.where(sizes > window, min(fresh, window), 0)
    return Plan(np.concatenate(rows).astype(np.int64), sizes, held, new, seed)


def whole_window(plan: Plan, step: int) -> Places:
    """All of window `step`, in the order of the slots."""
    places = _places(plan, step * plan.fresh, plan.held)
    order = np.argsort(places.slots)
    return Places(*(part[order] for part in places))


def new_places(plan: Plan, step: int) -> Places:
    """What window `step` holds and window `step - 1` does not; the rest is the same, in the same slots."""
    return _places(plan, (step - 1) * plan.fresh + plan.held, plan.fresh)


def window_rows(plan: Plan) -> np.ndarray:
    """The slots of each client, int32 [C, max m], cyclically padded; the same for every window."""
    starts = np.cumsum(plan.held) - plan.held
    return (starts[:, None] + np.arange(plan.held.max()) % plan.held[:, None]).astype(np.int32)


def shuffled(index: np.ndarray, size: np.ndarray, key: np.ndarray) -> np.ndarray:
    """A permutation of 0..size-1 for each key, evaluated at `index`: int64, all of one shape.

    A Feistel network on the smallest square of a power of 2 that holds `size`, walked on from results outside.

    References:
      Black & Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002 (cycle walking).
    """
    half = np.maximum(1, (np.ceil(np.log2(np.maximum(size, 2))).astype(np.int64) + 1) // 2).astype(np.uint64)
    mask = (np.uint64(1) << half) - np.uint64(1)
    out = index.astype(np.uint64)
    left = np.arange(len(out))
    while len(left):
        out[left] = _feistel(out[left], half[left], mask[left], key[left])
        left = left[out[left] >= size[left].astype(np.uint64)]
    return out.astype(np.int64)


def random_bits(*parts: np.ndarray | int) -> np.ndarray:
    """A hash of some integers: uint64 of their common shape (at least [1]).

    References:
      Steele, Lea & Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014 (the finaliser).
    """
    total = np.zeros(1, np.uint64)
    for part in parts:
        total = _mixed(total + _STEP + np.asarray(part, np.int64).astype(np.uint64))
    return total


def _mixed(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _feistel(x: np.ndarray, half: np.ndarray, mask: np.ndarray, key: np.ndarray) -> np.ndarray:
    left, right = x >> half, x & mask
    for turn in range(_ROUNDS):
        mixed = _mixed(
            key + np.uint64((turn + 1) * int(_STEP) % 2**64) + right * np.uint64(0xD1342543DE82EF95)
        )
        left, right = right, left ^ (mixed & mask)
    return (left << half) | right


def _places(plan: Plan, first: np.ndarray, count: np.ndarray) -> Places:
    """The places first..first+count-1 of every client."""
    clients = np.repeat(np.arange(len(count)), count)
    place = np.arange(len(clients)) - np.repeat(np.cumsum(count) - count, count) + first[clients]
    size, held = plan.sizes[clients], plan.held[clients]
    slots = (np.cumsum(plan.held) - plan.held)[clients] + place % held
    key = random_bits(plan.seed, 0, clients, place // size)
    ids = plan.ids[(np.cumsum(plan.sizes) - plan.sizes)[clients] + shuffled(place % size, size, key)]
    return Places(slots, ids, random_bits(plan.seed, 1, clients, place))
