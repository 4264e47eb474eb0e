"""The embeddings that clients hold: an .npz file of vectors of sounds, with a visual condition for each."""

import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from learned_aggregation.atomic import write_atomic
from learned_aggregation.data.npz_file import Unreadable, read_npz
from learned_aggregation.errors import UserError

ARRAYS = ("audio", "clip", "label", "client")
MOST_CLASSES = 2**16
TEST_SHARE = 0.2
"""Of each class of each client, where the file does not say which examples are its test."""


class Store(NamedTuple):
    """audio: S vectors of each sound. clip: its visual condition, one for each vector or one for all of them.

    client: the natural client of each example. is_test: what is held out. classes: their names.
    """

    audio: Float[np.ndarray, "N S D"]
    clip: Float[np.ndarray, "N ..."]
    label: Int[np.ndarray, "N"]
    client: Int[np.ndarray, "N"]
    is_test: np.ndarray
    classes: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        return len(self.classes)


def write_store(path: str, store: Store) -> None:
    """Writes a store's file, atomically.

    Raises:
      RunError: the disk refused.
    """
    content = io.BytesIO()
    fields: dict[str, Any] = store._asdict() | {"classes": np.array(store.classes)}
    np.savez_compressed(content, **fields)
    write_atomic(Path(path), content.getvalue())


def read_store(path: str) -> Store:
    """A store's file: `audio` [n, S, D], `clip` [n, S, V] or [n, V], `label` [n], `client` [n], is_test, classes.

    The last two are optional: without is_test a fifth of each class of each client is held out, the same in every run.

    Raises:
      UserError: there is no such file, an array is missing or they do not fit each other.
    """
    try:
        stored = read_npz(path, ARRAYS)
    except Unreadable as error:
        raise _unusable(path, str(error)) from None
    audio, clip, label, client = (stored[name] for name in ARRAYS)
    is_test, names = stored.get("is_test"), None
    if "classes" in stored:
        names = [str(name) for name in stored["classes"].ravel().tolist()]
    fit = (
        audio.ndim == 3
        and clip.ndim in (2, 3)
        and (clip.ndim == 2 or clip.shape[1] == audio.shape[1])
        and label.ndim == client.ndim == 1
        and len(audio) == len(clip) == len(label) == len(client) > 0
        and min(*audio.shape, *clip.shape) > 0
        and all(np.issubdtype(a.dtype, np.integer) and a.min() >= 0 for a in (label, client))
        and all(np.issubdtype(a.dtype, np.floating) for a in (audio, clip))
        and (is_test is None or (is_test.shape == label.shape and is_test.dtype.kind in "biu"))
        and (names is None or len(names) > label.max())
    )
    if not fit:
        shapes = ", ".join(f"{a.dtype}{list(a.shape)}" for a in (audio, clip, label, client))
        raise _unusable(path, shapes)
    if label.max() >= MOST_CLASSES:
        raise _unusable(path, f"labels up to {label.max()}, where fewer than {MOST_CLASSES} are served")
    with np.errstate(over="ignore"):
        audio, clip = audio.astype(np.float32), clip.astype(np.float32)
    if not (np.isfinite(audio).all() and np.isfinite(clip).all()):
        raise _unusable(path, "numbers that are not finite, or more than float32 holds")
    is_test = held_out(label, client) if is_test is None else is_test.astype(bool)
    if is_test.all() or not is_test.any():
        raise _unusable(path, f"{int(is_test.sum())} of {len(label)} examples in is_test")
    classes = tuple(names or map(str, range(int(label.max()) + 1)))
    return Store(audio, clip, label.astype(np.int32), client, is_test, classes)


def _unusable(path: str, got: str) -> UserError:
    return UserError(
        f"store_path: expected an .npz of float audio [n, S, D] and clip [n, S, V] or [n, V] and whole label and "
        f"client [n], got {path!r} ({got}). Name such a file."
    )


def held_out(label: Int[np.ndarray, "N"], client: Int[np.ndarray, "N"]) -> np.ndarray:
    """[N]: every fifth example of each class of each client, and so the same in every run.

    Example:
      >>> held_out(np.zeros(5, int), np.zeros(5, int)).tolist()
      [False, False, False, False, True]
    """
    marked, every = np.zeros(len(label), bool), round(1 / TEST_SHARE)
    for one, of in set(zip(label.tolist(), client.tolist(), strict=True)):
        marked[np.flatnonzero((label == one) & (client == of))[every - 1 :: every]] = True
    return marked


def standardised(store: Store) -> Store:
    """Audio and conditions divided by one number each, so that their root mean square is 1 over what is trained on."""
    train = ~store.is_test

    def scaled(x: np.ndarray) -> np.ndarray:
        mean = np.mean(np.square(x[train], dtype=np.float64))  # squares of large numbers do not fit float32
        return (x / max(float(np.sqrt(mean)), 1e-12)).astype(np.float32)

    return store._replace(audio=scaled(store.audio), clip=scaled(store.clip))


def conditions(store: Store) -> Float[np.ndarray, "Y ..."]:
    """Each class's visual condition: the mean of its examples'; what server and clients all know."""
    found = np.zeros((store.num_classes, *store.clip.shape[1:]), np.float32)
    for label in np.unique(store.label):
        found[label] = store.clip[store.label == label].mean(axis=0)
    return found


def trained_on(store: Store) -> tuple[np.ndarray, np.ndarray]:
    """(ids of the training examples, ids of every fifth of each class and client beside them, for validation)."""
    rest = np.flatnonzero(~store.is_test)
    valid = held_out(store.label[rest], store.client[rest])
    return rest[~valid], rest[valid]


def divided(store: Store, train: np.ndarray, how: str, clients: int) -> list[np.ndarray]:
    """The training examples of each client, by id.

    Args:
      train: the ids of them all.
      how: "natural" (by the store's clients), "disjoint" (classes dealt out, no class with two clients) or "shared"
        (every class with every client).
    Raises:
      UserError: there are not as many clients in it, or a client without examples.
    """
    label, natural = store.label[train], store.client[train]
    if how == "natural":
        ids = np.unique(natural)
        rows = [train[natural == one] for one in ids]
        if len(ids) != clients:
            raise UserError(
                f"num_clients: expected {len(ids)} with client_classes 'natural', as the store has, got {clients}. "
                "Change num_clients (and num_grads)."
            )
    elif how == "disjoint":
        present = np.unique(label)
        rows = [train[np.isin(label, present[one::clients])] for one in range(clients)]
    else:
        # Class after class dealt out, so that each client has its share of each.
        order = np.lexsort((train, label))
        rows = [np.sort(train[order[one::clients]]) for one in range(clients)]
    if any(len(one) == 0 for one in rows):
        raise UserError(
            f"num_clients: expected at most as many clients as there are classes or examples, got {clients}. Lower it."
        )
    return rows
