"""Streams: windows that depend on the seed and their number alone, and which data is streamed."""

import importlib.util
import time

import jax
import numpy as np
import pytest
from stream_data import ROWS, assert_same, first_windows_of, numbered, stream

from learned_aggregation.data import streaming
from learned_aggregation.data.sampling import sample_cohort
from learned_aggregation.data.streaming import (
    Stream,
    Streaming,
    evaluation_examples,
    resident_or_streamed,
    windows_of,
)
from learned_aggregation.data.windows import (
    new_places,
    plan,
    random_bits,
    shuffled,
    whole_window,
    window_rows,
)
from learned_aggregation.devices.parallel import everywhere, job_mesh
from learned_aggregation.errors import RunError, UserError
from learned_aggregation.types import FederatedData

pytest.importorskip("grain")


@pytest.mark.parametrize("size", [1, 2, 3, 5, 16, 17, 257, 4096, 4097])
def test_shuffled_is_a_permutation_for_each_key(size):
    orders = []
    for key in (1, 2):
        keys = np.broadcast_to(random_bits(key), size)
        orders.append(shuffled(np.arange(size), np.full(size, size), keys).tolist())
        assert sorted(orders[-1]) == list(range(size))
    assert size < 16 or orders[0] != orders[1]


def test_shuffled_is_even():
    """Over many keys two places hold each pair of 10 examples equally often: chi-square, 89 degrees of freedom."""
    count = 90_000
    keys = random_bits(0, np.arange(count))
    first, second = (shuffled(np.full(count, i), np.full(count, 10), keys) for i in (2, 7))
    counts = np.bincount(first * 10 + second, minlength=100).reshape(10, 10)
    assert not counts.diagonal().any()
    assert ((counts[~np.eye(10, dtype=bool)] - 1000) ** 2 / 1000).sum() < 135.8  # its 0.999 quantile


def test_a_client_sees_each_of_its_examples_once_an_epoch():
    division = plan(ROWS, 30, 10, seed=0)
    first = whole_window(division, 0).ids
    later = [new_places(division, step).ids for step in range(1, 80)]
    of_client = [np.concatenate([first, *later]) for _ in ROWS]
    for client, ids in enumerate(ROWS):
        seen = of_client[client][np.isin(of_client[client], ids)]
        if len(ids) <= 30:
            assert sorted(seen) == sorted(ids)  # whole from the start, never new
            continue
        epochs = seen[: len(seen) // len(ids) * len(ids)].reshape(-1, len(ids))
        assert len(epochs) > 5
        assert (np.sort(epochs, axis=1) == ids).all()
        assert len({tuple(epoch) for epoch in epochs}) == len(epochs)  # shuffled anew


def test_slots_belong_to_their_clients():
    division = plan(ROWS, 30, 10, seed=0)
    rows = window_rows(division)
    assert rows.shape == (3, 30)
    assert np.array_equal(rows[1], 30 + np.arange(30) % 10)
    for step in (0, 1, 9):
        places = whole_window(division, step)
        assert np.array_equal(places.slots, np.arange(30 + 10 + 30))
        for client, ids in enumerate(ROWS):
            assert np.isin(places.ids[rows[client]], ids).all()


@pytest.mark.parametrize("augmented", [(), ("crop", "flip")])
@pytest.mark.parametrize("fresh", [7, 30])
def test_windows_on_the_device_are_those_of_their_number(fresh, augmented):
    data = stream(fresh=fresh, augment=augmented)
    assert data.all_is_new == (fresh == 30 and bool(augmented))
    for step, examples in enumerate(first_windows_of(data, 6)):
        assert_same(examples, data.whole(step))
    assert_same(first_windows_of(data, 3, start=3), first_windows_of(data, 6)[3:])


@pytest.mark.parametrize("threads", [1, 5])
def test_threads_change_nothing(threads, monkeypatch):
    """Windows take different times to read, so that they are ready in another order."""
    read, expected = Stream._read, first_windows_of(stream(), 8)

    def slow(self, places):
        time.sleep(0.02 * (int(places.ids[0]) % 3))
        return read(self, places)

    monkeypatch.setattr(Stream, "_read", slow)
    assert_same(first_windows_of(stream(threads=threads), 8), expected)


def test_tasks_that_share_a_stream_share_its_windows():
    data, other = stream(), stream(seed=4)
    datas = ({"train": data}, {"train": data, "test": other})
    sharding = everywhere(job_mesh(1))
    with streaming.windows_of_all(datas, sharding, start=2) as windows:
        (one,), (same, different) = (list(splits.values()) for splits in next(windows))
    assert one is same
    assert_same(one.examples, data.whole(2))
    assert_same(different.examples, other.whole(2))
    (one,), (same, _) = (list(splits.values()) for splits in streaming.first_windows(datas, sharding))
    assert one is same
    assert_same(one.examples, data.whole(0))


def test_another_seed_is_another_stream():
    same, other = stream(seed=3).whole(4)["label"], stream(seed=4).whole(4)["label"]
    assert np.array_equal(stream().whole(4)["label"], same)
    assert not np.array_equal(same, other)


def test_clients_keep_their_weights_in_a_window():
    data = stream()
    with windows_of(data, everywhere(job_mesh(1))) as windows:
        batch, weight, ids = sample_cohort(next(windows), jax.random.key(0), 3, 4, 50)
    assert np.array_equal(weight, [70, 10, 120])
    for client, labels in zip(ids, batch["label"], strict=True):
        assert np.isin(labels, ROWS[client]).all()
        assert len(np.unique(labels)) > 9  # 200 draws reach most of the client's 30, or all of its 10


def test_data_that_fits_stays_on_the_device():
    split, megabyte = numbered(20_000), 2**20
    assert split.examples["image"].nbytes > megabyte
    pool = [np.arange(20_000)]

    def placed(**options):
        return resident_or_streamed(split, pool, Streaming(window=1000, **options))

    assert isinstance(placed(), FederatedData)
    assert isinstance(placed(stream=False, device_data_mb=1), FederatedData)
    assert isinstance(placed(device_data_mb=1), Stream)
    assert isinstance(placed(stream=True), Stream)
    assert isinstance(placed(augment=("flip",)), Stream)
    whole = Streaming(stream=True, window=20_000)
    assert isinstance(resident_or_streamed(split, pool, whole), FederatedData)


def test_evaluated_examples_are_a_fixed_part_of_the_split():
    split = numbered()
    some = evaluation_examples("test", split, 50, 1)["label"]
    assert len(np.unique(some)) == 50
    assert np.array_equal(some, evaluation_examples("test", split, 50, 1)["label"])
    assert np.array_equal(evaluation_examples("test", split, None, 1)["label"], np.arange(200))
    with pytest.raises(
        UserError, match=r"split test to fit into device_data_mb=1, got 20000 .* Set eval_exa"
    ):
        evaluation_examples("test", numbered(20_000), None, 1)


def test_without_grain_the_extra_is_named(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "grain" else find(name))
    with pytest.raises(UserError, match=r"pip install 'learned-aggregation\[stream\]'.*stream=False"):
        resident_or_streamed(numbered(), ROWS, Streaming(stream=True, window=30))
    resident_or_streamed(numbered(), ROWS, Streaming())


def test_windows_that_do_not_fit_are_refused():
    options = Streaming(stream=True, window=5000, device_data_mb=1)
    with pytest.raises(
        UserError, match=r"stream_window: expected 4 windows .*device_data_mb=1, got 4 x 0 MB"
    ):
        resident_or_streamed(numbered(20_000), [np.arange(20_000)], options)


def test_examples_that_cannot_be_read_end_the_run_with_one_line(monkeypatch):
    new = Stream.new
    monkeypatch.setattr(Stream, "new", lambda self, step: 1 // 0 if step == 2 else new(self, step))
    with pytest.raises(RunError, match=r"stream: expected examples that can be read, got ZeroDivisionError"):
        first_windows_of(stream(), 4)
