"""Data too large for the device: a window of it at a time, read ahead by grain while the device works.

The window of outer step s depends on the seed and s alone. So a resumed run needs no state of the reader, the
number of threads changes nothing, and all processes of a run read the same. Windows have one shape and are an
argument of the same compiled step as data that lies on the device whole.
"""

import functools
import importlib.util
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from learned_aggregation.data.augment import augmented
from learned_aggregation.data.federated import to_federated
from learned_aggregation.data.windows import Places, new_places, plan, whole_window, window_rows
from learned_aggregation.devices.parallel import put
from learned_aggregation.errors import RunError, UserError
from learned_aggregation.types import FederatedData, Split

AT_ONCE = 4
"""Windows on the device at a time: one for each outer step in flight, and the next."""
_END = 2**31 - 1


class Streaming(NamedTuple):
    """What is streamed, and how.

    stream: True, False, or None for splits above `device_data_mb` only.
    device_data_mb: megabytes that the data may take on the device.
    window, fresh: the examples of each client in a window, and how many of them are new in the next one.
    augment: names of augmentations; what they are given for is always streamed.
    threads: that read ahead.
    """

    stream: bool | None = None
    device_data_mb: int = 4096
    window: int = 4096
    fresh: int = 1024
    augment: Sequence[str] = ()
    threads: int = 2
    seed: int = 0


class Stream:
    """A split and its division over clients, as windows. Making one reads nothing.

    Args:
      split: examples whose leaves are arrays, or anything with `shape`, `dtype` and `leaf[ids]`.
      rows: the example ids of each client.
    Raises:
      UserError: no grain, images to augment where there are none, windows larger than the device may hold.
    """

    def __init__(self, split: Split, rows: list[np.ndarray], options: Streaming):
        self._examples, self._options = split.examples, options
        self._plan = plan(rows, options.window, options.fresh, options.seed, always=bool(options.augment))
        self.moves = bool(self._plan.fresh.sum())
        if options.augment and "image" not in split.examples:
            found = "text" if "tokens" in split.examples else "a table"
            raise UserError(
                f"augment: expected a data set of images, got {found} with augment={list(options.augment)}. "
                "Leave augment out."
            )

    @property
    def window_bytes(self) -> int:
        """Of one window."""
        return example_bytes(self._examples) * int(self._plan.held.sum())

    @property
    def all_is_new(self) -> bool:
        """Whether no example of a window stays for the next one."""
        return bool(np.all(self._plan.fresh == self._plan.held))

    def index(self) -> tuple[np.ndarray, np.ndarray]:
        """(rows [C, M], sizes [C]) of every window, see FederatedData; sizes are those of the whole split."""
        return window_rows(self._plan), self._plan.sizes.astype(np.int32)

    def whole(self, step: int) -> dict[str, np.ndarray]:
        """The examples of window `step`."""
        return self._read(whole_window(self._plan, step))

    def new(self, step: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """(slots, examples) that turn window `step - 1` into window `step`."""
        places = new_places(self._plan, step)
        return places.slots.astype(np.int32), self._read(places)

    def read_ahead(self, read: Callable[[int], Any], start: int) -> "_Ahead":
        """read(start), read(start + 1), ... computed by threads ahead of their use."""
        return _Ahead(read, start, self._options.threads)

    def _read(self, places: Places) -> dict[str, np.ndarray]:
        examples = {name: np.asarray(leaf[places.ids]) for name, leaf in self._examples.items()}
        if not self._options.augment:
            return examples
        return augmented(examples, places.random, self._options.augment)


Data = FederatedData | Stream


def resident_or_streamed(split: Split, rows: list[np.ndarray], options: Streaming) -> Data:
    """The split on the device, or as a stream if it is too large, is asked to be, or is augmented.

    A split none of whose clients has more examples than a window is put on the device whole in any case, unless
    it is augmented.

    Raises:
      UserError: no grain, nothing to augment, or windows larger than the device may hold.
    """
    size = example_bytes(split.examples) * _count(split.examples)
    asked = size > options.device_data_mb * 2**20 if options.stream is None else options.stream
    if not (asked or options.augment):
        return to_federated(split, rows)
    stream = Stream(split, rows, options)
    if not stream.moves:
        return to_federated(split, rows)
    _check_grain()
    if AT_ONCE * stream.window_bytes > options.device_data_mb * 2**20:
        raise UserError(
            f"stream_window: expected {AT_ONCE} windows at a time to fit into device_data_mb={options.device_data_mb}, "
            f"got {AT_ONCE} x {stream.window_bytes / 2**20:.0f} MB with stream_window={options.window} examples of "
            f"each of {len(rows)} clients. Lower stream_window or raise device_data_mb."
        )
    return stream


def evaluation_examples(
    name: str, split: Split, most: int | None, device_data_mb: int
) -> dict[str, jax.Array]:
    """A split to be evaluated, on the device; with `most`, that many of its examples, the same in every run.

    Raises:
      UserError: it is larger than the device may hold.
    """
    count = _count(split.examples)
    kept = min(count, most or count)
    size = example_bytes(split.examples) * kept / 2**20
    if size > device_data_mb:
        raise UserError(
            f"eval_examples: expected the split {name} to fit into device_data_mb={device_data_mb}, got {kept} "
            f"examples with {size:.0f} MB. Set eval_examples to {int(kept * device_data_mb / size)} or less."
        )
    if kept == count:
        return {leaf: jnp.asarray(np.asarray(values)) for leaf, values in split.examples.items()}
    ids = np.sort(whole_window(plan([np.arange(count)], kept, kept, 0), 0).ids)
    return {leaf: jnp.asarray(np.asarray(values[ids])) for leaf, values in split.examples.items()}


def example_bytes(examples: Mapping[str, Any]) -> int:
    """Of one example."""
    return sum(int(np.prod(leaf.shape[1:])) * np.dtype(leaf.dtype).itemsize for leaf in examples.values())


@contextmanager
def windows_of(data: Data, sharding: NamedSharding, start: int = 0) -> Iterator[Iterator[FederatedData]]:
    """The windows start, start + 1, ... of a stream on the device; data that lies there is every one of its windows.

    At the end of the context the reader's threads stop.

    Raises:
      RunError: in reading: examples that cannot be read.
    """
    if isinstance(data, FederatedData):
        yield itertools.repeat(data)
        return
    with _on_device(data, sharding, start) as windows:
        yield windows


@contextmanager
def windows_of_all(
    datas: Sequence[Mapping[str, Data]], sharding: NamedSharding, start: int = 0
) -> Iterator[Iterator[tuple[dict[str, FederatedData], ...]]]:
    """The data argument of the outer steps start, start + 1, ...; see `windows_of`.

    Args:
      datas: for each task, the data of its splits; what several share is read, and lies on the device, once.
    """
    distinct = _distinct(datas)
    with ExitStack() as stack:
        windows = {
            key: stack.enter_context(windows_of(data, sharding, start)) for key, data in distinct.items()
        }

        def together() -> Iterator[tuple[dict[str, FederatedData], ...]]:
            while True:
                yield _arranged(datas, {key: next(of_data) for key, of_data in windows.items()})

        yield together()


def first_windows(
    datas: Sequence[Mapping[str, Data]], sharding: NamedSharding
) -> tuple[dict[str, FederatedData], ...]:
    """The data argument of outer step 0."""
    first = {
        key: data if isinstance(data, FederatedData) else _federated(data, data.whole(0), sharding)
        for key, data in _distinct(datas).items()
    }
    return _arranged(datas, first)


def _distinct(datas: Sequence[Mapping[str, Data]]) -> dict[int, Data]:
    """By identity: what several tasks share is read once."""
    return {id(data): data for splits in datas for data in splits.values()}


def _arranged(
    datas: Sequence[Mapping[str, Data]], windows: Mapping[int, FederatedData]
) -> tuple[dict[str, FederatedData], ...]:
    """The windows in the places of what they are windows of."""
    return tuple({split: windows[id(data)] for split, data in splits.items()} for splits in datas)


@contextmanager
def _on_device(stream: Stream, sharding: NamedSharding, start: int) -> Iterator[Iterator[FederatedData]]:
    ahead = stream.read_ahead(stream.whole if stream.all_is_new else stream.new, start + 1)

    def windows() -> Iterator[FederatedData]:
        window = _federated(stream, stream.whole(start), sharding)
        while True:
            yield window
            if stream.all_is_new:
                window = window._replace(examples=put(next(ahead), sharding))
            else:
                slots, new = put(next(ahead), sharding)
                window = window._replace(examples=_renewed(sharding)(window.examples, slots, new))

    try:
        yield windows()
    finally:
        ahead.close()


def _federated(stream: Stream, examples: dict[str, np.ndarray], sharding: NamedSharding) -> FederatedData:
    return FederatedData(*put((examples, *stream.index()), sharding))


@functools.lru_cache(maxsize=8)
def _renewed(sharding: NamedSharding) -> Callable[..., dict[str, jax.Array]]:
    """(examples [W, ...], slots [F], new [F, ...]) -> the examples with the new ones in their slots."""

    def renewed(examples, slots, new):
        def one(leaf, fresh):
            return leaf.at[slots].set(fresh, unique_indices=True, mode="promise_in_bounds")

        return jax.tree.map(one, examples, new)

    return jax.jit(renewed, out_shardings=sharding)


class _Ahead:
    """An endless iterator over read(start), read(start + 1), ..., at most `threads` of them ahead.

    Raises:
      RunError: whatever `read` raised, but for UserErrors, which come as they are.
    """

    def __init__(self, read: Callable[[int], Any], start: int, threads: int):
        import grain

        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(2, threads))
        numbers = grain.MapDataset.range(start, _END)
        self._iterator = iter(numbers.map(read).to_iter_dataset(options))
        self._iterator.start_prefetch()

    def __next__(self) -> Any:
        try:
            return next(self._iterator)
        except UserError:
            raise
        except Exception as error:  # record readers and decoders have no common base class for theirs
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise RunError(
                f"stream: expected examples that can be read, got {reason}. Repair the data, then resume."
            ) from error

    def close(self) -> None:
        """Ends the threads; a window that is being read is finished first."""
        self._iterator.close()


def _check_grain() -> None:
    if importlib.util.find_spec("grain") is None:
        raise UserError(
            "stream: expected the package grain, which reads data that is larger than the device, got none. Install "
            "it with `pip install 'learned-aggregation[stream]'`, or set stream=False to put the data on the device."
        )


def _count(examples: Mapping[str, Any]) -> int:
    return next(iter(examples.values())).shape[0]
