"""The embedded data sets, their cache, and the names of data sets."""

import os
import subprocess
import sys
import zlib

import numpy as np
import pytest

from learned_aggregation.data import (
    NEEDS_NO_FILES,
    TABLES,
    DataOptions,
    cache,
    glyphs,
    images,
    kind_of,
    load_dataset,
    photos,
)
from learned_aggregation.data.images import resize
from learned_aggregation.data.stratified import quantile_bins
from learned_aggregation.errors import UserError
from learned_aggregation.types import SPLITS

IMAGES = [name for name in NEEDS_NO_FILES if kind_of(name) == "image"]
SMALL = dict(zip(SPLITS, (600, 60, 60, 62), strict=True))


@pytest.fixture
def small_glyphs(monkeypatch):
    """Glyphs with few images."""
    monkeypatch.setattr(glyphs, "SIZES", SMALL)


@pytest.mark.parametrize("name", [*IMAGES, "glyphs26", "glyphs62rgb"])
@pytest.mark.parametrize("size", [8, 28])
def test_splits_shapes_and_types(name, size, small_glyphs, tmp_path):
    data = load_dataset(name, size, DataOptions(cache_dir=str(tmp_path)))
    assert data.name == name
    assert tuple(data.splits) == SPLITS
    channels = 3 if name.endswith("rgb") or name == "photos" else 1
    for split in data.splits.values():
        image, label = split.examples["image"], split.examples["label"]
        assert image.shape == (len(label), size, size, channels)
        assert (image.dtype, label.dtype) == (np.uint8, np.int32)
        assert 0.5 < image.max() * data.scale <= 1
        assert set(label) <= set(range(data.num_classes))
    assert set(data.splits["train"].examples["label"]) == set(range(data.num_classes))


def test_digits_are_all_there_once_in_a_stratified_split():
    from sklearn.datasets import load_digits

    splits = load_dataset("digits", 8).splits
    sizes = [len(split.examples["label"]) for split in splits.values()]
    assert sizes == [1000, 250, 250, 297]
    images = np.concatenate([split.examples["image"].reshape(-1, 64) for split in splits.values()])
    labels = np.concatenate([split.examples["label"] for split in splits.values()])
    raw = load_digits()
    stored = sorted((*image, label) for image, label in zip(images.tolist(), labels.tolist(), strict=True))
    assert stored == sorted((*i, t) for i, t in zip(raw.data.astype(int).tolist(), raw.target, strict=True))
    share = np.bincount(raw.target) / len(raw.target)
    for size, split in zip(sizes, splits.values(), strict=True):
        counts = np.bincount(split.examples["label"], minlength=10)
        assert np.abs(counts - share * size).max() <= 2


def test_digits_split_never_changes():
    splits = load_dataset("digits", 8, DataOptions(seed=3)).splits
    sums = [
        zlib.crc32(s.examples["image"].tobytes() + s.examples["label"].tobytes()) for s in splits.values()
    ]
    assert sums == [3640694118, 3561145236, 1031442920, 803965077]


@pytest.mark.parametrize("name", ["breast", "diabetes"])
def test_a_tables_rows_are_all_there_once_standardised_by_the_train_split(name):
    from sklearn.datasets import load_breast_cancer, load_diabetes

    raw, predicted = (
        load_breast_cancer(return_X_y=True)
        if name == "breast"
        else load_diabetes(return_X_y=True, scaled=False)
    )
    data = load_dataset(name, TABLES[name])
    assert tuple(data.splits) == SPLITS
    leaf, dtype = ("label", np.int32) if name == "breast" else ("target", np.float32)
    for split in data.splits.values():
        assert set(split.examples) == {"features", leaf}
        assert (split.examples["features"].dtype, split.examples[leaf].dtype) == (np.float32, dtype)
    train = data.splits["train"].examples["features"]
    np.testing.assert_allclose(train.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(train.std(0), 1, rtol=1e-5)
    inputs = np.concatenate([split.examples["features"] for split in data.splits.values()])
    outputs = np.concatenate([split.examples[leaf].reshape(-1) for split in data.splits.values()])
    ours, theirs = ((rows - rows.mean(0)) / rows.std(0) for rows in (inputs, raw))
    distances = np.abs(ours[:, None] - theirs).max(-1)
    nearest = distances.argmin(1)
    assert sorted(nearest) == list(range(len(raw)))
    assert distances.min(1).max() < 1e-4
    np.testing.assert_array_equal(outputs, predicted[nearest])


@pytest.mark.parametrize(
    ("name", "sums"),
    [
        ("breast", [467296937, 2426765480, 3731194940, 2725452455]),
        ("diabetes", [2388668212, 3935108758, 2105753805, 1727987930]),
    ],
)
def test_a_tables_split_never_changes_and_is_stratified(name, sums):
    splits = load_dataset(name, TABLES[name], DataOptions(seed=3)).splits
    outputs = [split.examples.get("label", split.examples.get("target")) for split in splits.values()]
    assert [zlib.crc32(values.tobytes()) for values in outputs] == sums
    strata = np.concatenate(outputs).reshape(-1)
    strata = strata if name == "breast" else quantile_bins(strata)
    ends = np.cumsum([len(values) for values in outputs])[:-1]
    share = np.bincount(strata) / len(strata)
    for part in np.split(strata, ends):
        assert np.abs(np.bincount(part, minlength=len(share)) - share * len(part)).max() <= 2


@pytest.mark.parametrize(
    ("name", "rows", "sums"),
    [
        ("noisy", 300, [659527791, 1997145823, 103118323, 3999793271]),
        ("noisyfew", 100, [587908894, 1585068584, 982864127, 3445680835]),
    ],
)
def test_a_noisy_table_never_changes_and_its_classes_are_drawn(name, rows, sums):
    splits = load_dataset(name, 20, DataOptions(seed=3)).splits
    assert [len(split.examples["label"]) for split in splits.values()] == [rows, 1000, 500, 500]
    assert [zlib.crc32(split.examples["label"].tobytes()) for split in splits.values()] == sums
    features, label = (
        np.concatenate([s.examples[leaf] for s in splits.values()]) for leaf in ("features", "label")
    )
    assert (features.dtype, label.dtype) == (np.float32, np.int32)
    assert abs(features.mean()) < 0.01
    assert abs(features.std() - 1) < 0.01
    weights = np.linalg.lstsq(features, 2.0 * label - 1, rcond=None)[0]
    right = np.mean((features @ weights > 0) == label)
    assert 0.85 < right < 0.97  # the teacher is there to be found, and is not always followed


@pytest.mark.parametrize("name", ["photos", "glyphs", "photoclips"])
def test_images_larger_than_the_memory_are_refused_before_any_is_drawn(monkeypatch, tmp_path, name):
    monkeypatch.setattr(images, "_memory", lambda: 2**20)
    with pytest.raises(
        UserError, match=f"^{name}: expected images that fit .* 0.000977 GiB of memory, got size 16, with"
    ):
        load_dataset(name, 16, DataOptions(cache_dir=str(tmp_path)))
    assert not list(tmp_path.iterdir())


@pytest.fixture
def columns_as_photos(monkeypatch):
    """Two photographs whose red says the column, whose green says the row and whose blue says which it is."""
    y, x = np.meshgrid(np.arange(213), np.arange(320), indexing="ij")
    both = [np.stack([x * 0.79, y, np.full_like(x, 100 * i)], axis=-1) / 255 for i in (0, 1)]
    monkeypatch.setattr(photos, "photographs", lambda: tuple(one.astype(np.float32) for one in both))
    monkeypatch.setattr(photos, "SIZES", SMALL)


def test_crops_of_two_splits_share_no_pixel(columns_as_photos):
    splits = load_dataset("photos", 32).splits
    spans = {}
    for name, split in splits.items():
        images, labels = split.examples["image"], split.examples["label"]
        np.testing.assert_array_equal(images[:, 16, 16, 2], 100 * labels)
        spans[name] = (images[..., 0].min() / 0.79, images[..., 0].max() / 0.79)
        middle = images[:, 15:17, :, 1].astype(float).mean((1, 2))
        near_a_border = np.abs(middle[:, None] - 213 / 4 * np.arange(1, 4)).min(1) < 2
        bands = labels * photos.BANDS + (middle * photos.BANDS / 213).astype(int)
        np.testing.assert_array_equal(split.clients[~near_a_border], bands[~near_a_border])
    assert spans["train"][1] < spans["inner_valid"][0]
    assert max(spans["inner_valid"][1], spans["outer_valid"][1]) < spans["test"][0]
    train = splits["train"]
    assert np.bincount(train.examples["label"]).tolist() == [300, 300]
    assert set(train.clients.tolist()) == set(range(8))
    mirrored = train.examples["image"][:, 16, 0, 0] > train.examples["image"][:, 16, -1, 0]
    assert 0.4 < mirrored.mean() < 0.6


def test_crops_follow_the_seed(columns_as_photos):
    one, same, other = (
        load_dataset("photos", 16, DataOptions(seed=seed)).splits["train"].examples["image"]
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, same)
    assert np.any(one != other)


def test_default_glyphs_size_balance_and_clients():
    assert sum(glyphs.SIZES.values()) == 24_000
    arrays = glyphs.generate(SMALL, 10, 12, 1, 0)
    for split in SPLITS:
        counts = np.bincount(arrays[f"{split}_label"], minlength=10)
        assert counts.max() - counts.min() <= 1
    assert set(arrays["train_font"]) == set(range(len(glyphs.FONTS)))


def test_glyphs_follow_the_seed():
    one, same, other = (glyphs.generate(SMALL, 10, 12, 1, seed) for seed in (0, 0, 1))
    assert all(np.array_equal(one[key], same[key]) for key in one)
    assert not np.array_equal(one["train_image"], other["train_image"])
    assert not np.array_equal(one["inner_valid_image"], one["outer_valid_image"])


def test_every_font_draws_every_character():
    """No font lacks a character, which it would draw as nothing or as its one replacement box."""
    drawn = glyphs.draw_characters(glyphs.CHARACTERS, 32)
    assert drawn.shape == (len(glyphs.FONTS), 62, 32, 32)
    assert drawn.sum((2, 3)).min() > 10
    flat = drawn.reshape(len(glyphs.FONTS), 62, -1)
    for font in flat:
        assert len(np.unique(font, axis=0)) == 62
    assert len(np.unique(flat.reshape(len(glyphs.FONTS), -1), axis=0)) == len(glyphs.FONTS)


def test_a_glyph_looks_like_its_character():
    """The average image of a class correlates with its own undistorted character more than with any other."""
    arrays = glyphs.generate({"train": 2000}, 10, 16, 1, 0)
    plain = glyphs.draw_characters(glyphs.CHARACTERS[:10], 16).mean(0).reshape(10, -1)
    labels = arrays["train_label"]
    means = np.stack([arrays["train_image"][labels == c].mean(0).ravel() for c in range(10)])
    similarity = np.corrcoef(means, plain)[:10, 10:]
    assert similarity.argmax(1).tolist() == list(range(10))


def test_glyphs_are_cached_and_a_damaged_cache_is_made_again(small_glyphs, tmp_path, monkeypatch):
    options = DataOptions(cache_dir=str(tmp_path))
    first = load_dataset("glyphs", 12, options).splits["train"].examples["image"]
    (file,) = tmp_path.iterdir()
    monkeypatch.setattr(glyphs, "generate", lambda *_: pytest.fail("generated though it is cached"))
    assert np.array_equal(load_dataset("glyphs", 12, options).splits["train"].examples["image"], first)
    monkeypatch.undo()
    monkeypatch.setattr(glyphs, "SIZES", SMALL)
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for damaged in (b"", b"not a zip file", whole[: len(whole) // 2], bytes(flipped)):
        file.write_bytes(damaged)
        assert np.array_equal(load_dataset("glyphs", 12, options).splits["train"].examples["image"], first)
        assert file.read_bytes()[:2] == b"PK"
        assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_cache_files_of_different_data_differ(small_glyphs, tmp_path):
    options = DataOptions(cache_dir=str(tmp_path))
    for name, size, seed in (("glyphs", 8, 0), ("glyphs", 9, 0), ("glyphs", 8, 1), ("glyphs11", 8, 0)):
        load_dataset(name, size, options._replace(seed=seed))
    load_dataset("glyphsrgb", 8, options)
    assert len(list(tmp_path.iterdir())) == 5


def test_a_cache_that_holds_pickles_is_not_trusted(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, x=np.array([{"a": 1}], dtype=object))
    assert cache.cached_arrays(path, lambda: {"x": np.arange(3)})["x"].tolist() == [0, 1, 2]


def test_an_unwritable_cache_is_a_warning(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.warns(UserWarning, match="cannot keep the generated data"):
        stored = cache.cached_arrays(blocked / "data.npz", lambda: {"x": np.arange(3)})
    assert stored["x"].tolist() == [0, 1, 2]


def test_cache_dir_follows_xdg(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_dir() == tmp_path / "learned-aggregation"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_dir() == tmp_path / ".cache" / "learned-aggregation"
    assert cache.cache_dir(str(tmp_path / "mine")) == tmp_path / "mine"


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        (
            "fminst",
            28,
            r"data set: expected one of digits, glyphs, .*, got 'fminst'. Did you mean 'fmnist'\?",
        ),
        ("glyphs_62", 28, "Did you mean 'glyphs'"),
        ("glyphs63", 28, "glyphs63: expected 2 to 62 classes, got 63"),
        ("glyphs1", 28, "expected 2 to 62 classes, got 1"),
        ("digits", 0, "digits: expected an image size from 4 to 1024 pixels, got 0"),
        ("digits", "28", "expected an image size"),
        ("breast", 31, "breast: expected 30 features, got 31."),
        ("diabetes", "10", "diabetes: expected 10 features, got '10'."),
        ("noisy", 30, "noisy: expected 20 features, got 30."),
    ],
)
def test_bad_names_and_sizes_are_one_clear_line(name, size, message):
    with pytest.raises(UserError, match=message) as caught:
        load_dataset(name, size)
    assert "\n" not in str(caught.value)


def test_importing_the_names_imports_no_library():
    code = (
        "import sys, learned_aggregation.data, learned_aggregation.data.partitions;"
        "heavy = {'jax', 'sklearn', 'tensorflow_datasets', 'matplotlib', 'PIL'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "[]", done.stderr


def test_resize_keeps_flat_images_and_their_channels():
    flat = np.broadcast_to(np.array([7, 90, 200], np.uint8), (2, 8, 8, 3))
    out = resize(np.ascontiguousarray(flat), 12)
    assert out.shape == (2, 12, 12, 3)
    assert np.array_equal(np.unique(out.reshape(-1, 3), axis=0), [[7, 90, 200]])
    same = np.zeros((1, 8, 8, 1), np.uint8)
    assert resize(same, 8) is same


def test_resize_averages_when_it_shrinks():
    board = np.indices((16, 16)).sum(0) % 2 * 200
    out = resize(board.astype(np.uint8)[None, ..., None], 4)
    assert np.abs(out.astype(int) - 100).max() <= 15
