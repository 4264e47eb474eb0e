"""Streams: windows that depend on the seed and their number alone, and runs that go on in mid-stream."""

import contextlib
import importlib.util
import itertools
import signal
import threading
import time

import jax
import numpy as np
import pytest
import tiny_run
from tiny_run import files_below, meta_train, metrics, saved_state

from learned_aggregation import build, cli
from learned_aggregation.config.resolve import Config
from learned_aggregation.data import DataOptions, augment, load_dataset, streaming
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
from learned_aggregation.meta_testing.program import Budget, Program, Shared
from learned_aggregation.problems.inner_problem import RoundSizes
from learned_aggregation.types import FederatedData, Split

pytest.importorskip("grain")
ROWS = [np.arange(0, 70), np.arange(70, 80), np.arange(80, 200)]
"""Three clients; the middle one is smaller than the windows below."""
FLAGS = ["--stream=True", "--stream_window=200", "--stream_fresh=60", "--augment=crop,flip"]


def numbered(count: int = 200, side: int = 8) -> Split:
    """Random images; the label of each is its number."""
    image = np.random.default_rng(0).integers(1, 256, size=(count, side, side, 1), dtype=np.uint8)
    return Split({"image": image, "label": np.arange(count, dtype=np.int32)})


def stream(**options) -> Stream:
    return Stream(numbered(), ROWS, Streaming(**({"window": 30, "fresh": 7, "seed": 3} | options)))


def first_windows_of(data, count: int, start: int = 0) -> list[dict[str, np.ndarray]]:
    with windows_of(data, everywhere(job_mesh(1)), start) as windows:
        return [jax.tree.map(np.asarray, w.examples) for w in itertools.islice(windows, count)]


def assert_same(one, other) -> None:
    jax.tree.map(np.testing.assert_array_equal, one, other)


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


def test_crop_cuts_the_padded_image():
    images = numbered(50, 16).examples["image"]
    cropped = augment.crop(images, random_bits(0, np.arange(50)))
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    corners = []
    for image, source in zip(cropped, padded, strict=True):
        found = [
            corner
            for corner in itertools.product(range(5), range(5))
            if np.array_equal(image, source[corner[0] : corner[0] + 16, corner[1] : corner[1] + 16])
        ]
        corners += found
    assert len(corners) == 50  # every image is one cut of its own
    assert {top for top, _ in corners} == {left for _, left in corners} == set(range(5))


def test_flip_mirrors_half():
    images = numbered(400).examples["image"]
    flipped = augment.flip(images, random_bits(0, np.arange(400)))
    mirrored = [np.array_equal(image, source[:, ::-1]) for image, source in zip(flipped, images, strict=True)]
    kept = [np.array_equal(image, source) for image, source in zip(flipped, images, strict=True)]
    assert [a != b for a, b in zip(mirrored, kept, strict=True)] == [True] * 400
    assert 160 < sum(mirrored) < 240


def test_augmentation_depends_on_the_place_and_leaves_labels_alone():
    plain, changed = stream(), stream(augment=("crop", "flip"))
    clean = numbered().examples["image"]
    windows = [changed.whole(step) for step in range(40)]
    for window in windows[:3]:
        assert window["image"].dtype == np.uint8
        assert not np.array_equal(window["image"], clean[window["label"]])
    assert np.array_equal(windows[0]["label"][:30], plain.whole(0)["label"][:30])
    looks = {image.tobytes() for w in windows for image in w["image"][w["label"] == 75]}
    assert len(looks) > 2  # the small client's examples, too, are seen anew
    assert_same(windows[5], stream(augment=("crop", "flip")).whole(5))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The directory of a streamed, augmented run of 6 outer steps that nothing stopped."""
    directory = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as monkeypatch:
        tiny_run.run_here(monkeypatch, directory)
        assert meta_train(*FLAGS, "--num_outer_steps=6") == 0
    return directory


def _reader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "grain" in thread.name]


def _assert_as_undisturbed(undisturbed, directory) -> None:
    assert saved_state(directory) == saved_state(undisturbed)
    assert metrics(directory) == metrics(undisturbed)
    name = "checkpoints/tiny/global_step6.safetensors"
    assert files_below(directory)[name] == files_below(undisturbed)[name]


@pytest.mark.parametrize("send", [signal.SIGTERM, None], ids=["SIGTERM", "end"])
def test_a_run_goes_on_in_mid_stream_bit_for_bit(undisturbed, tmp_path, monkeypatch, send):
    tiny_run.run_here(monkeypatch, tmp_path)
    with monkeypatch.context() as patch:
        steps = []

        def training(config):
            made = tiny_run.training_of(config)

            def outer_step(state, datas):
                steps.append(1)
                if len(steps) == 3 and send:
                    signal.raise_signal(send)
                return made.outer_step(state, datas)

            return made._replace(outer_step=outer_step)

        patch.setattr(build, "meta_training", training)
        status = meta_train(*FLAGS, f"--num_outer_steps={6 if send else 3}")
    assert status == (143 if send else 0)
    assert (tmp_path / "checkpoints/tiny/latest").read_text().strip() == "global_step3"
    for thread in _reader_threads():
        thread.join(10)
    assert not _reader_threads()
    assert meta_train(*FLAGS, "--num_outer_steps=6", "--from_checkpoint", "--stream_threads=4") == 0
    _assert_as_undisturbed(undisturbed, tmp_path)


def test_the_stream_decides_what_is_learned(undisturbed, tmp_path, monkeypatch):
    """Else the test above would show nothing."""
    tiny_run.run_here(monkeypatch, tmp_path)
    assert meta_train(*FLAGS[:-1], "--num_outer_steps=6") == 0
    assert saved_state(tmp_path) != saved_state(undisturbed)


@contextlib.contextmanager
def _compilations():
    """The list of programs compiled in the context, as it grows."""
    found = []

    def listen(event, duration, **_):
        if "backend_compile" in event:
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_windows_are_an_argument_of_one_compiled_step():
    config = Config(
        **tiny_run.SIZES, stream=True, stream_window=200, stream_fresh=60, meta_loss_split="inner_valid"
    )
    training = build.meta_training(config)
    assert isinstance(training.datas[0]["train"], Stream)
    mesh, state = job_mesh(config.num_tasks), training.state
    compiled = []
    with streaming.windows_of_all(training.datas, everywhere(mesh)) as windows:
        for _ in range(3):
            window = next(windows)
            with jax.transfer_guard("disallow"), _compilations() as found:
                state, _ = training.outer_step(state, window)
            compiled.append(len(found))
    assert compiled == [1, 0, 0]
    assert jax.tree.map(np.shape, window[0]["train"].examples) == {"image": (200, 8, 8, 1), "label": (200,)}


def test_meta_test_of_a_stream():
    """Segments get the windows in order, and every run gets the same."""
    config = Config(
        task="mlp4_digits_8",
        optimizer="fedavg",
        stream=True,
        stream_window=200,
        stream_fresh=60,
        num_grads=2,
        num_local_steps=1,
        local_batch_size=4,
        eval_examples=40,
    )
    loaded = build.load_task(config, config.tasks[0])
    contest, shared = build.contest(config, loaded, (), ["test"])
    assert isinstance(shared.train, Stream)
    assert shared.evaluation["test"][0]["label"].shape == (1, 40)
    program = Program(contest, Budget(6, 2), job_mesh(2, 1))
    assert contest.sizes == RoundSizes(2, 1, 4)

    def losses(data) -> np.ndarray:
        return program.run(Shared((), data, shared.evaluation), build_rates(config), np.arange(2)).train_loss

    whole = losses(shared.train)
    assert np.array_equal(whole, losses(shared.train))
    with windows_of(shared.train, everywhere(job_mesh(2, 1))) as windows:
        first, second, _ = itertools.islice(windows, 3)
        assert np.array_equal(losses(first)[:, :2], whole[:, :2])
        assert not np.array_equal(losses(first)[:, 2:], whole[:, 2:])
        assert not np.array_equal(losses(second)[:, :2], whole[:, :2])


def build_rates(config: Config) -> dict[str, np.ndarray]:
    return {name: np.full(2, value) for name, value in build.rates_of(config).items()}


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


def test_text_and_tables_are_not_augmented():
    text = Split({"tokens": np.zeros((50, 9), np.uint8)})
    with pytest.raises(UserError, match=r"augment: expected a data set of images, got text"):
        resident_or_streamed(text, [np.arange(50)], Streaming(augment=("flip",)))
    table = Split({"features": np.zeros((50, 9), np.float32), "label": np.zeros(50, np.int32)})
    with pytest.raises(UserError, match=r"augment: expected a data set of images, got a table"):
        resident_or_streamed(table, [np.arange(50)], Streaming(augment=("flip",)))
    found = first_windows_of(Stream(text, [np.arange(50)], Streaming(window=10, fresh=5)), 2)
    assert found[1]["tokens"].shape == (10, 9)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--stream_fresh=300", "--stream_window=200"],
            "--stream_fresh: expected at most stream_window, 200",
        ),
        (["--augment=flip", "--stream=False"], "--stream: expected True or None with augment, got False"),
        (["--augment=rotate"], "--augment: expected one of crop, flip, got 'rotate'"),
    ],
)
def test_settings_that_do_not_fit(flags, message, capsys, tmp_path, monkeypatch):
    tiny_run.run_here(monkeypatch, tmp_path)
    assert cli.main([*tiny_run.FLAGS, *flags]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {message}")


def test_examples_that_cannot_be_read_end_the_run_with_one_line(monkeypatch):
    new = Stream.new
    monkeypatch.setattr(Stream, "new", lambda self, step: 1 // 0 if step == 2 else new(self, step))
    with pytest.raises(RunError, match=r"stream: expected examples that can be read, got ZeroDivisionError"):
        first_windows_of(stream(), 4)


def _stored_and_loaded(tmp_path, **options):
    pytest.importorskip("tensorflow_datasets")
    from test_data_tfds import prepare

    folder = prepare(tmp_path, "cifar10", "3.0.2")
    datas = [
        load_dataset("c10", 16, DataOptions(tfds_data_dir=str(tmp_path), whole_mb=mb)) for mb in (0, None, 1)
    ]
    return folder, datas


def test_images_on_disk_are_those_in_memory(tmp_path):
    _, (stored, loaded, small) = _stored_and_loaded(tmp_path)
    for name, split in stored.splits.items():
        image, label = split.examples["image"], split.examples["label"]
        assert not isinstance(image, np.ndarray)
        assert isinstance(small.splits[name].examples["image"], np.ndarray)
        assert image.shape == loaded.splits[name].examples["image"].shape
        assert_same(dict(split.examples), loaded.splits[name].examples)
        assert label.dtype == np.int32
    pool, options = [np.arange(40)], Streaming(stream=True, window=10, fresh=3, augment=("crop",))
    from_disk, from_memory = (Stream(data.splits["train"], pool, options) for data in (stored, loaded))
    assert_same(first_windows_of(from_disk, 4), first_windows_of(from_memory, 4))
    assert_same(
        evaluation_examples("test", stored.splits["test"], 5, 1),
        evaluation_examples("test", loaded.splits["test"], 5, 1),
    )


def test_a_damaged_image_met_in_mid_stream_is_one_line(tmp_path, monkeypatch):
    from learned_aggregation.data import tfds_images

    _, (stored, *_) = _stored_and_loaded(tmp_path)
    data = Stream(stored.splits["train"], [np.arange(40)], Streaming(stream=True, window=10, fresh=3))
    with windows_of(data, everywhere(job_mesh(1))) as windows:
        next(windows)
        monkeypatch.setattr(tfds_images, "_fitted", lambda *_: 1 // 0)
        with pytest.raises(UserError, match=r"c10: expected TFDS data in .* got integer .* by zero in "):
            list(itertools.islice(windows, 9))
