"""The setting `datasets`: data and entries that are refused, each in one line."""

import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from source_data import IMAGES, LABELS, load

from learned_aggregation.atomic import from_home
from learned_aggregation.config.settings import Config
from learned_aggregation.data import description_of, load_dataset
from learned_aggregation.data.npz_file import read_npz
from learned_aggregation.data.sources.arrays import fingerprint
from learned_aggregation.errors import UserError
from learned_aggregation.registry import brought
from learned_aggregation.tasks.objectives.tabular_classification import tabular_classification
from learned_aggregation.types import Split

BAD_ARRAYS = [
    ({"image": IMAGES, "label": LABELS[:5]}, 6, "expected columns of one length, got {'image': 60, 'label': 5}"),
    ({"x": IMAGES}, 6, r"expected a column image, video, features or tokens, got x. Say which .*columns=dict\(image="),
    ({"image": IMAGES, "label": LABELS - 1}, 6, "expected labels from 0 to .* got -1 to 1. Number them from 0"),
    ({"image": IMAGES.astype(int), "label": LABELS}, 6, "expected images as uint8"),
    ({"features": np.ones((60, 3)), "label": LABELS}, 4, "expected 4 features, .* got 3. Change the size"),
    ({"features": np.full((60, 3), np.nan), "label": LABELS}, 3, "expected finite features"),
    ({"tokens": np.ones((60, 3), int)}, 6, "expected sequences of 7 tokens .* got 3. Change the size .* to 2"),
    ({"tokens": np.ones(3, int)}, 6, "expected at least 7 tokens"),
    ({"features": np.full((60, 3), 1e300), "target": np.ones(60)}, 3, "expected finite features, .* row 0"),
    ({"features": np.array([["a"]] * 60), "label": LABELS}, 1, "expected numbers as features, got <U1"),
    ({"features": np.ones((60, 3)), "target": np.full(60, np.nan)}, 3, "expected finite target"),
    ({"image": np.full((60, 6, 6), np.nan), "label": LABELS}, 6, "expected finite images, .* image 0"),
    ({"image": [np.zeros((6, 6)), np.zeros((7, 7))] * 30}, 6, "expected images as uint8 .* got object"),
    ({"image": IMAGES, "label": np.where(LABELS == 1, np.nan, 0)}, 6, "expected whole .* as labels, got nan in row 1"),
    ({"image": IMAGES, "label": LABELS / 2}, 6, "expected whole numbers or names as labels, got 0.5 in row 1"),
    ({"image": IMAGES, "label": np.array([0, None] * 30)}, 6, "expected whole .* of one kind, got None in row 1"),
    ({"image": IMAGES, "label": np.eye(3)[LABELS]}, 6, r"expected one label for each .* got \[60, 3\]. .*argmax"),
    ({"image": IMAGES, "client": np.ones((60, 2))}, 6, "expected one client for each example"),
    ({"image": IMAGES, "label": 3}, 6, "expected an array with a row for each example as label, got 3"),
    ({"tokens": np.ones((60, 7))}, 6, "expected whole numbers .* as tokens, got float64"),
    ({"tokens": np.array([None] * 60)}, 6, "expected texts or lists of whole numbers as tokens, got None in row 0"),
    ({"tokens": np.ones(60, int), "client": np.ones(9, int)}, 6, "expected columns of one length"),
    ({"train": {"image": IMAGES, "label": LABELS}, "test": {"image": IMAGES, "label": LABELS.astype(str)}}, 6,
     "expected labels of one kind in all parts"),
    ({"train": {"features": IMAGES[:, 0], "label": LABELS}, "test": {"features": IMAGES[:, 0, :5], "label": LABELS}}, 6,
     r"expected examples of one form in all splits, got features float32\[6\] in train and float32\[5\] in test"),
    ({"train": {"image": IMAGES, "label": LABELS}, "test": {"image": IMAGES}}, 6, ".* got label .* missing in test"),
    ({"image": IMAGES[:4], "label": LABELS[:4]}, 6, "expected examples in every split, got none in inner_valid"),
]  # fmt: skip


@pytest.mark.parametrize(("columns", "size", "message"), BAD_ARRAYS, ids=range(len(BAD_ARRAYS)))
def test_data_that_does_not_fit_is_refused(columns, size, message):
    with (
        brought({("arrays", "x"): columns}),
        pytest.raises(UserError, match=f"datasets.mine: {message}") as caught,
    ):
        load(size, type="arrays", sha256="x")
    assert "\n" not in str(caught.value)


def test_labels_and_clients_keep_their_numbers_whatever_holds_them():
    """Floats and Python's integers are no names: 10 does not come before 2."""
    labels = np.arange(60) % 12
    wanted = arrays(image=IMAGES, label=labels, client=labels)
    for kind in (float, object, np.uint64):
        found = arrays(image=IMAGES, label=labels.astype(kind), client=labels[:, None].astype(kind))
        jax.tree.map(np.testing.assert_array_equal, found.splits, wanted.splits)
    names = arrays(image=IMAGES, label=np.array([b"\xff", b"a", b"b"])[LABELS], client=LABELS - 5)
    assert (names.num_classes, np.unique(names.splits["train"].clients).tolist()) == (3, [-5, -4, -3])


def test_a_long_sequence_is_cut_client_by_client():
    data = arrays(tokens=np.arange(400) % 2, client=np.arange(400) % 2)
    train = data.splits["train"]
    assert all(
        (rows == client).all() for rows, client in zip(train.examples["tokens"], train.clients, strict=True)
    )
    assert set(train.clients.tolist()) == {0, 1}


def test_large_features_are_standardised():
    features = 1e30 * (1 + np.arange(60)[:, None] % np.arange(2, 8))
    found = arrays(features=features, label=LABELS).splits["train"].examples["features"]
    np.testing.assert_allclose(found.std(0), 1, rtol=1e-5)


def test_equal_fingerprints_are_of_equal_arrays():
    """Python's text of a long array leaves most of it out."""
    long = [np.zeros(5000), np.zeros(3)]
    other = [np.where(np.arange(5000) == 2500, 1.0, 0.0), np.zeros(3)]
    assert fingerprint({"tokens": long}) == fingerprint({"tokens": [x.copy() for x in long]})
    assert fingerprint({"tokens": long}) != fingerprint({"tokens": other})


def arrays(**columns):
    with brought({("arrays", "x"): columns}):
        return load(6, type="arrays", sha256="x")


def test_a_split_of_another_form_is_refused():
    """Of a data set that a user's function makes too."""
    data = arrays(image=IMAGES, label=LABELS)
    test = Split({**data.splits["test"].examples, "image": np.zeros((6, 6, 6, 3), np.uint8)})
    with pytest.raises(UserError, match="mine: expected examples of one form in all splits, got image"):
        description_of(data._replace(splits={**data.splits, "test": test}))


@pytest.mark.parametrize("found", [3, {"": 3}])
def test_what_a_source_from_outside_returns_is_refused(found, monkeypatch, tmp_path):
    (tmp_path / "users_source.py").write_text(f"def read(where, entry, options): return {found!r}")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "users_source", raising=False)
    with pytest.raises(
        UserError, match=r"datasets\.mine: expected users_source:read to return a dict of part"
    ):
        load(type="users_source:read")


def test_what_a_data_set_from_outside_returns_is_refused():
    with (
        brought({("data set", "mine"): lambda name, size, options: 3}),
        pytest.raises(
            UserError, match="data set mine: expected a function that returns an object with name, splits"
        ),
    ):
        load_dataset("mine", 8)


def test_an_image_that_cannot_be_read_is_named_itself(tmp_path):
    """The first one decides how all are read: asked for another, it is still the first that is damaged."""
    for number in range(40):
        (tmp_path / "ab"[number % 2]).mkdir(exist_ok=True)
        Image.new("L", (6, 6)).save(tmp_path / "ab"[number % 2] / f"{number:02}.png")
    (tmp_path / "a" / "00.png").write_text("no image")
    with pytest.raises(UserError, match=r"a/00\.png: expected an image that can be decoded"):
        load(type="image_folder", path=str(tmp_path))


def test_one_class_is_refused():
    data = arrays(features=IMAGES[:, 0], label=np.zeros(60, int))
    with pytest.raises(UserError, match="expected at least 2 classes, got 1"):
        tabular_classification("t", None, data)


def test_paths_begin_with_the_home_folder(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", image=IMAGES)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert list(read_npz("~/a.npz")) == ["image"]
    assert from_home("~nobody-here/a") == Path("~nobody-here/a")


@pytest.mark.parametrize("kind", ["objects", "damaged", "missing", "array", "packed", "password"])
def test_archives_that_are_none(kind, tmp_path):
    path = tmp_path / "a.npz"
    if kind in ("packed", "password"):  # cut in its packed numbers; marked as encrypted
        np.savez_compressed(path, image=IMAGES)
        content = bytearray(path.read_bytes())
        if kind == "packed":
            content[200:240] = bytes(40)
        for mark in (b"PK\1\2", b"PK\3\4") if kind == "password" else ():
            content[content.index(mark) + (8 if mark[2] == 1 else 6)] |= 1
        path.write_bytes(content)
    if kind == "objects":
        np.savez(path, image=np.array([{}, {}], object))
    if kind == "damaged":
        path.write_bytes(b"PK\3\4 and no more")
    if kind == "array":
        path = tmp_path / "a.npy"
        np.save(path, IMAGES)
    told = {"objects": "Python objects", "missing": "No such file"}.get(kind, "")
    with pytest.raises(
        UserError, match=rf"datasets.mine: expected an .npz of plain arrays .*{told}.*np.savez"
    ):
        load(type="npz", path=str(path))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"type": "npy", "path": "a"},
            "datasets.mine.type: expected one of npz, .* got 'npy'. Did you mean 'npz'",
        ),
        ({"type": "npz"}, "datasets.mine: expected path with type='npz'"),
        ({"type": "npz", "path": 3}, "datasets.mine.path: expected a path"),
        ({"type": "npz", "pth": "a"}, "datasets.mine: expected a known key, got 'pth'. Did you mean 'path'"),
        ({"type": "npz", "path": "a", "sha256": "b"}, "datasets.mine: expected a known key, got 'sha256'"),
        (
            {"type": "npz", "path": "a", "fractions": [0.5, 0.5]},
            "datasets.mine.fractions: expected three fractions",
        ),
        ({"type": "npz", "path": "a", "fractions": [0.5, 0.5, 0.5]}, "fractions that sum to 1"),
        (
            {"type": "npz", "path": "a", "columns": {"image": 3}},
            "datasets.mine.columns.image: expected the name",
        ),
        ({"type": "image_folder", "path": {"train": "a"}}, "datasets.mine.path: expected one path"),
        ({"type": "tfds"}, "datasets.mine: expected name with type='tfds'"),
        ({"type": "users_none:read", "path": "a"}, "datasets.mine.type: expected a module that is there"),
    ],
)
def test_entries_of_another_form_are_refused(entry, message):
    with pytest.raises(UserError, match=message):
        Config(datasets={"mine": entry})


@pytest.mark.parametrize("name", ["digits", "glyphs26", "my:set", "a,b", "2d"])
def test_names_that_are_taken_or_do_not_parse_are_refused(name):
    with pytest.raises(UserError, match=f"datasets.{name}: expected a name"):
        Config(datasets={name: {"type": "npz", "path": "a"}})


def test_an_entry_is_kept_as_it_is():
    entry = {
        "type": "npz",
        "path": "a.npz",
        "columns": {"image": "x"},
        "clients": "w",
        "fractions": (0.8, 0.1, 0.1),
    }
    config = Config(datasets={"mine": entry}, task="mlp8_mine_6")
    assert config.datasets == {"mine": {**entry, "fractions": [0.8, 0.1, 0.1]}}
    assert json.loads(json.dumps(config.datasets)) == config.datasets
    with pytest.raises(UserError, match=r"task 'mlp8_mind_6': data set: expected one of mine, .* got 'mind'"):
        Config(datasets={"mine": entry}, task="mlp8_mind_6")
