"""Data sets that are read from a file that the user names: text, and spoken digits."""

import numpy as np
import pytest

from learned_aggregation.data import DataOptions, describe, load_dataset
from learned_aggregation.data.fsdd import picture
from learned_aggregation.data.partitions import partition, split_labels
from learned_aggregation.errors import UserError
from learned_aggregation.tasks import make_task
from learned_aggregation.types import SPLITS

SPEAKERS, TAKES = 3, 12


def tone(hertz, seconds=0.5):
    return (8000 * np.sin(2 * np.pi * hertz * np.arange(int(8000 * seconds)) / 8000)).astype(np.int16)


@pytest.fixture(scope="module")
def spoken():
    """Arrays as the spoken digits have them: a digit's clips are tones of one pitch, of different lengths."""
    clips, rows = [], []
    for speaker in range(SPEAKERS):
        for digit in range(10):
            for take in range(TAKES):
                clips.append(tone(300 + 300 * digit, 0.1 + 0.02 * take))
                rows.append((digit, speaker, take < 2))
    digits, speakers, is_test = np.array(rows).T
    offsets = np.concatenate([[0], np.cumsum([len(clip) for clip in clips])])
    return {
        "x": np.concatenate(clips),
        "offsets": offsets,
        "y": digits.astype(np.uint8),
        "speaker": speakers.astype(np.uint8),
        "is_test": is_test.astype(bool),
    }


def load_spoken(arrays, path, size=8):
    np.savez(path, **arrays)
    return load_dataset("fsdd", size, DataOptions(fsdd_file=str(path)))


def test_spoken_digits_are_divided_as_the_set_is_with_speakers_as_clients(spoken, tmp_path):
    data = load_spoken(spoken, tmp_path / "a.npz")
    assert [len(data.splits[split].examples["label"]) for split in SPLITS] == [240, 30, 30, 60]
    for split in data.splits.values():
        assert split.examples["image"].shape[1:] == describe("fsdd", 8).shape == (8, 8, 1)
        assert split.examples["image"].dtype == np.uint8
        assert np.array_equal(np.unique(split.clients), np.arange(SPEAKERS))
        assert len(np.unique(split.examples["label"])) == data.num_classes == 10
    train = data.splits["train"]
    rows = partition("natural", split_labels(train), train.clients, SPEAKERS)
    assert sorted(int(train.clients[ids][0]) for ids in rows) == [0, 1, 2]


def test_no_clip_is_in_two_splits(spoken, tmp_path):
    """Each clip's picture is its own: tones of one pitch are told apart by what their length does to it."""
    data = load_spoken(spoken, tmp_path / "a.npz", 24)
    seen = [
        (image.tobytes(), label, client)
        for split in data.splits.values()
        for image, label, client in zip(*split.examples.values(), split.clients, strict=True)
    ]
    assert len(seen) == len(spoken["y"])
    assert len(set(seen)) > 0.9 * len(seen)


@pytest.mark.parametrize("size", [8, 28, 200])
def test_a_picture_shows_pitch_from_below_and_time_from_the_left(size):
    low, high = picture(tone(300), size), picture(tone(3000), size)
    middle = size // 2
    assert low.shape == (size, size)
    assert low.max() == high.max() == 255
    assert np.argmax(low[:, middle]) > np.argmax(high[:, middle])
    rising = picture(np.concatenate([tone(300), tone(3000)]), size)
    assert np.argmax(rising[:, size // 4]) > np.argmax(rising[:, -size // 4])


def test_silence_and_a_clip_shorter_than_a_window_are_pictures():
    assert picture(np.zeros(4000, np.int16), 8).shape == (8, 8)
    assert np.ptp(picture(tone(1000, 0.01), 8)) > 0


@pytest.mark.parametrize(
    "change",
    [
        {"y": None},
        {"offsets": np.array([0, 5])},
        {"y": np.full(SPEAKERS * 10 * TAKES, 10)},
        {"x": np.zeros(7, np.int16)},
    ],
)
def test_other_arrays_are_refused(change, spoken, tmp_path):
    arrays = {name: array for name, array in (spoken | change).items() if array is not None}
    with pytest.raises(
        UserError, match=r"fsdd_file: expected an .npz of x, offsets, y, speaker, is_test, got"
    ):
        load_spoken(arrays, tmp_path / "a.npz")


@pytest.mark.parametrize("content", [b"", b"PK damaged"])
def test_a_file_that_is_no_npz_is_refused_in_one_line(content, tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    for options in (DataOptions(fsdd_file=str(path)), DataOptions(fsdd_file=str(tmp_path / "none"))):
        with pytest.raises(UserError, match="fsdd_file: expected an") as caught:
            load_dataset("fsdd", 8, options)
        assert "\n" not in str(caught.value)


def test_a_text_is_cut_into_four_parts_in_its_order(tmp_path):
    path = tmp_path / "a.txt"
    text = "".join(f"line {number}, naïve\n" for number in range(400)).encode()
    path.write_bytes(text)
    data = load_dataset("textfile", 16, DataOptions(text_file=str(path)))
    assert data.num_classes == describe("textfile", 16).num_classes == 256
    lengths = [16 * len(data.splits[split].examples["tokens"]) for split in SPLITS]
    np.testing.assert_allclose(np.array(lengths) / len(text), [0.85, 0.05, 0.05, 0.05], atol=0.004)
    first, last = (data.splits[split].examples["tokens"] for split in (SPLITS[0], SPLITS[-1]))
    assert text.startswith(bytes(first[:, :-1].reshape(-1)))
    assert bytes(last[:, :-1].reshape(-1)) in text[round(0.95 * len(text)) :]


def test_a_text_that_cannot_be_had_is_named_in_one_line(tmp_path):
    (tmp_path / "short.txt").write_text("x" * 100)
    for options, message in (
        (DataOptions(), "textfile: expected the path of a text, got none. Give it as --text_file"),
        (DataOptions(text_file=str(tmp_path / "none")), "text_file: expected a file that can be read"),
        (DataOptions(text_file=str(tmp_path)), "text_file: expected a file that can be read"),
        (
            DataOptions(text_file=str(tmp_path / "short.txt")),
            "text_file: expected inner_valid, 5% of the file, to be longer than a sequence of 16, got 100 bytes",
        ),
    ):
        with pytest.raises(UserError, match=message) as caught:
            make_task("transformer32_textfile_16", options)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"fsdd: expected the path of an .npz .* --fsdd_file"):
        make_task("mlp8_fsdd_8")
