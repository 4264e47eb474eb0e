"""Making samples chunk by chunk, in memory or into files, and the pool of them that the server trains on."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from learned_aggregation.atomic import disk_error
from learned_aggregation.generators.base import Generator
from learned_aggregation.types import Key, Params

CHUNK = 500
"""Samples made at once: all that is in memory where they go to a file."""
WINDOW = 4096
"""Samples that a round's training sees of those that wait in files."""

Samples = Mapping[int, Float[np.ndarray, "n S D"]]
"""class -> its samples."""


class Pool(NamedTuple):
    """What the server trains on, with room for all that clients may send; valid: 1 for a sample, 0 for room."""

    audio: Float[Array, "P S D"]
    label: Int[Array, "P"]
    valid: Float[Array, "P"]


@partial(jax.jit, static_argnums=0)
def _drawn(generator: Generator, params: Params, label: Array, clip: Array, key: Key) -> Array:
    """Compiled once per generator and size of a chunk."""
    return generator.sample(params, label, clip, key)


def class_key(key: Key, label: int, chunk: int) -> Key:
    """Of one chunk of one class: the samples of a class don't depend on the others."""
    return jax.random.fold_in(jax.random.fold_in(key, label), chunk)


def chunks(
    generator: Generator, params: Params, label: int, condition: np.ndarray, count: int, key: Key
) -> Iterator[np.ndarray]:
    """`count` samples of a class, at most CHUNK at once; all chunks have one shape, so that they share a program."""
    size = min(CHUNK, count)
    labels = jnp.full(size, label, jnp.int32)
    clip = jnp.broadcast_to(jnp.asarray(condition), (size, *np.shape(condition)))
    for index in range(-(-count // size)):
        made = np.asarray(_drawn(generator, params, labels, clip, class_key(key, label, index)))
        yield made[: count - index * size]


def generate(
    generator: Generator, params: Params, class_outputs: Mapping[int, np.ndarray], count: int, key: Key
) -> Samples:
    """class -> `count` samples under its condition."""
    return {
        label: np.concatenate(list(chunks(generator, params, label, condition, count, key)))
        for label, condition in class_outputs.items()
    }


def generate_to_files(
    generator: Generator,
    params: Params,
    class_outputs: Mapping[int, np.ndarray],
    count: int,
    key: Key,
    directory: Path,
) -> Samples:
    """As `generate`, written as they are made; what comes back are arrays over the files, read where they are used.

    Memory beside the generator's: one chunk, 500 samples, which is 4 MB for four vectors of 512 numbers.

    Raises:
      RunError: the disk refused.
    """
    found = {}
    for label, condition in class_outputs.items():
        path = directory / f"class_{label}.f32"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            # A hidden name first: an array over a file that is being replaced keeps what it had.
            handle, name = tempfile.mkstemp(dir=directory, prefix=".samples")
            with os.fdopen(handle, "wb") as file:
                for made in chunks(generator, params, label, condition, count, key):
                    file.write(np.ascontiguousarray(made, np.float32).data)
                    shape = made.shape[1:]
            os.replace(name, path)
        except OSError as error:
            raise disk_error(path, error, "run again") from error
        found[label] = np.memmap(path, np.float32, "r", shape=(count, *shape))
    return found


def joined(parts: Sequence[np.ndarray], directory: Path | None, label: int) -> np.ndarray:
    """A class's samples of several clients as one array; of those in files, one over a file in `directory`.

    Raises:
      RunError: the disk refused.
    """
    if len(parts) == 1:
        return parts[0]
    if directory is None or not all(isinstance(part, np.memmap) for part in parts):
        return np.concatenate(parts)
    path = directory / f"class_{label}.f32"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=directory, prefix=".samples")
        with os.fdopen(handle, "wb") as file:
            for part in parts:
                with open(str(getattr(part, "filename", "")), "rb") as source:
                    shutil.copyfileobj(source, file)
        os.replace(name, path)
    except OSError as error:
        raise disk_error(path, error, "run again") from error
    return np.memmap(path, np.float32, "r", shape=(sum(map(len, parts)), *parts[0].shape[1:]))


def empty_pool(size: int, sequence: int, dim: int) -> Pool:
    """Room for `size` samples."""
    return Pool(jnp.zeros((size, sequence, dim)), jnp.zeros(size, jnp.int32), jnp.zeros(size))


def pool_of(samples: Samples, size: int, sequence: int, dim: int, random: np.random.Generator) -> Pool:
    """The samples in a pool of `size`; where they are more, as many of them drawn anew, class after class in turn."""
    ends = np.cumsum([0, *(len(of) for of in samples.values())])
    total = int(ends[-1])
    audio = np.zeros((size, sequence, dim), np.float32)
    label, valid = np.zeros(size, np.int32), np.zeros(size, np.float32)
    if total:
        rows = np.arange(total) if total <= size else np.sort(random.choice(total, size, replace=False))
        for place, (name, of) in enumerate(samples.items()):
            here = np.flatnonzero((rows >= ends[place]) & (rows < ends[place + 1]))
            audio[here] = _taken(of, rows[here] - ends[place])
            label[here] = name
        valid[: len(rows)] = 1
    return Pool(*map(jnp.asarray, (audio, label, valid)))


def _taken(of: np.ndarray, rows: Int[np.ndarray, "m"]) -> np.ndarray:
    """Some samples. Those in a file are read one by one: touched through the map, its pages and their neighbours, in
    the end the whole file, would stay in memory."""
    if not isinstance(of, np.memmap):
        return of[rows]
    size = of.dtype.itemsize * int(np.prod(of.shape[1:]))
    found = np.empty((len(rows), *of.shape[1:]), of.dtype)
    with open(str(getattr(of, "filename", "")), "rb") as file:
        for place, row in enumerate(rows.tolist()):
            file.seek(row * size)
            found[place] = np.frombuffer(file.read(size), of.dtype).reshape(of.shape[1:])
    return found


def count(samples: Samples) -> dict[str, Any]:
    """As the metrics have it."""
    return {
        "server/synthetic_samples_total": sum(len(of) for of in samples.values()),
        "server/synthetic_samples_classes": len(samples),
    }
