"""Images of a stream: augmented by their place alone, and read from disk as from memory."""

import itertools

import numpy as np
import pytest
from stream_data import assert_same, first_windows_of, numbered, stream

from learned_aggregation.data import DataOptions, augment, load_dataset
from learned_aggregation.data.streaming import (
    Stream,
    Streaming,
    evaluation_examples,
    resident_or_streamed,
    windows_of,
)
from learned_aggregation.data.windows import random_bits
from learned_aggregation.devices.parallel import everywhere, job_mesh
from learned_aggregation.errors import UserError
from learned_aggregation.types import Split

pytest.importorskip("grain")


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


def test_text_and_tables_are_not_augmented():
    text = Split({"tokens": np.zeros((50, 9), np.uint8)})
    with pytest.raises(UserError, match=r"augment: expected a data set of images, got text"):
        resident_or_streamed(text, [np.arange(50)], Streaming(augment=("flip",)))
    table = Split({"features": np.zeros((50, 9), np.float32), "label": np.zeros(50, np.int32)})
    with pytest.raises(UserError, match=r"augment: expected a data set of images, got a table"):
        resident_or_streamed(table, [np.arange(50)], Streaming(augment=("flip",)))
    found = first_windows_of(Stream(text, [np.arange(50)], Streaming(window=10, fresh=5)), 2)
    assert found[1]["tokens"].shape == (10, 9)


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
