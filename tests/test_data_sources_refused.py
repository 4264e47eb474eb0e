"""The setting `datasets`: data and entries that are refused, each in one line."""

import json

import numpy as np
import pytest
from source_data import IMAGES, LABELS, load

from learned_aggregation.config.settings import Config
from learned_aggregation.errors import UserError
from learned_aggregation.registry import brought

BAD_ARRAYS = [
    ({"image": IMAGES, "label": LABELS[:5]}, 6, "expected columns of one length, got {'image': 60, 'label': 5}"),
    ({"x": IMAGES}, 6, r"expected a column image, video, features or tokens, got x. Say which .*columns=dict\(image="),
    ({"image": IMAGES, "label": LABELS - 1}, 6, "expected labels from 0 to .* got -1 to 1. Number them from 0"),
    ({"image": IMAGES.astype(int), "label": LABELS}, 6, "expected images as uint8"),
    ({"features": np.ones((60, 3)), "label": LABELS}, 4, "expected 4 features, .* got 3. Change the size"),
    ({"features": np.full((60, 3), np.nan), "label": LABELS}, 3, "expected finite features"),
    ({"tokens": np.ones((60, 3), int)}, 6, "expected sequences of 7 tokens .* got 3. Change the size .* to 2"),
    ({"tokens": np.ones(3, int)}, 6, "expected at least 7 tokens"),
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


@pytest.mark.parametrize("kind", ["objects", "damaged", "missing", "array"])
def test_archives_that_are_none(kind, tmp_path):
    path = tmp_path / "a.npz"
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
