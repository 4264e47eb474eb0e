"""The setting `datasets`: the user's data, of each type, as a task sees it."""

import csv
import io
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import prepare_tfds
from PIL import Image
from source_data import IMAGES, LABELS, WRITERS, N, load, options

from learned_aggregation.cli import main
from learned_aggregation.data import description_of, load_dataset
from learned_aggregation.data.sources import ARRAYS
from learned_aggregation.data.sources.arrays import fingerprint
from learned_aggregation.data.sources.splits import divide
from learned_aggregation.data.sources.stored import StoredImages
from learned_aggregation.errors import UserError
from learned_aggregation.registry import brought
from learned_aggregation.tasks import make_task


def sizes(dataset):
    return [len(next(iter(split.examples.values()))) for split in dataset.splits.values()]


@pytest.fixture
def npz(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, image=IMAGES, label=LABELS, writer=WRITERS)
    return str(path)


def test_an_archive_is_cut_by_the_seed(npz):
    data = load(type="npz", path=npz, clients="writer")
    assert sizes(data) == [48, 3, 3, 6]
    again, other = load(type="npz", path=npz), load(type="npz", path=npz, seed=1)
    np.testing.assert_array_equal(
        again.splits["test"].examples["image"], data.splits["test"].examples["image"]
    )
    assert np.any(other.splits["test"].examples["image"] != data.splits["test"].examples["image"])
    assert sizes(load(type="npz", path=npz, fractions=[0.5, 0.2, 0.3])) == [30, 6, 6, 18]
    train = data.splits["train"]
    assert (data.num_classes, data.scale) == (3, 1 / 255)
    assert train.examples["image"].shape == (48, 6, 6, 1)
    assert train.examples["label"].dtype == np.int32
    assert again.splits["train"].clients is None
    # Every example keeps its label and its writer.
    place = [
        int(np.flatnonzero((image[..., 0] == IMAGES).all((1, 2)))[0]) for image in train.examples["image"]
    ]
    np.testing.assert_array_equal(train.examples["label"], LABELS[place])
    np.testing.assert_array_equal(train.clients, np.array(place) % 5)


def test_an_archive_runs_with_natural_clients(npz, tmp_path, monkeypatch):
    """Through the command line, by a task whose data set's name has an underscore."""
    monkeypatch.chdir(tmp_path)
    entry = ["datasets.my_set.type=npz", f"datasets.my_set.path={npz}", "datasets.my_set.clients=writer"]
    sizes = [
        "--num_grads=2",
        "--num_local_steps=2",
        "--local_batch_size=4",
        "--num_inner_steps=20",
        "--num_runs=1",
    ]
    which = [
        "--run_type=benchmark",
        "--optimizer=fedavg",
        "--task=mlp8_my_set_6",
        "--partition=natural",
        "--run_dir=run",
    ]
    assert main([*which, *sizes, "--cfg-options", *entry]) == 0
    with (tmp_path / "run" / "rounds.csv").open(newline="") as file:
        losses = [float(row["test_loss"]) for row in csv.DictReader(file)]
    assert losses[-1] < 0.8 * losses[0]
    assert len((tmp_path / "run" / "partition.csv").read_text().splitlines()) == 1 + 5


def test_parts_that_the_source_has_are_kept(tmp_path):
    parts = {"train": slice(0, 30), "val": slice(30, 50), "test": slice(50, 60)}
    arrays = {
        f"{part}_{leaf}": a[rows]
        for part, rows in parts.items()
        for leaf, a in (("image", IMAGES), ("label", LABELS))
    }
    np.savez(tmp_path / "one.npz", **arrays)
    data = load(type="npz", path=str(tmp_path / "one.npz"))
    assert sizes(data) == [30, 10, 10, 10]
    np.testing.assert_array_equal(data.splits["test"].examples["image"][..., 0], IMAGES[50:])
    for part, rows in parts.items():
        np.savez(tmp_path / f"{part}.npz", image=IMAGES[rows], label=LABELS[rows])
    several = load(type="npz", path={part: str(tmp_path / f"{part}.npz") for part in parts})
    jax.tree.map(np.testing.assert_array_equal, several.splits, data.splits)


def test_what_a_source_has_not_is_cut_from_its_train_part():
    found = divide("mine", {"train": 100, "test": 7}, (0.8, 0.1, 0.1), 0)
    assert {split: (rows.part, len(rows.ids)) for split, rows in found.items()} == {
        "train": ("train", 90),
        "inner_valid": ("train", 5),
        "outer_valid": ("train", 5),
        "test": ("test", 7),
    }
    cut = np.concatenate([found[split].ids for split in ("train", "inner_valid", "outer_valid")])
    np.testing.assert_array_equal(np.sort(cut), np.arange(100))
    both = divide("mine", {"train": 10, "inner_valid": 4, "outer_valid": 3}, (0.8, 0.1, 0.1), 0)
    assert [(rows.part, len(rows.ids)) for rows in both.values()] == [
        ("train", 9), ("inner_valid", 4), ("outer_valid", 3), ("train", 1),
    ]  # fmt: skip


def folder_of_images(root, by_client=False, size=6):
    for i in range(N):
        folder = root / (f"w{i % 5}" if by_client else "") / "abc"[LABELS[i]]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.kron(IMAGES[i], np.ones((size // 6, size // 6), np.uint8))).save(
            folder / f"{i:03}.png"
        )
    return str(root)


@pytest.mark.parametrize("by_client", [False, True])
def test_a_folder_of_images(by_client, tmp_path):
    path = folder_of_images(tmp_path / "images", by_client)
    data = load(type="image_folder", path=path, **({"clients": "folder"} if by_client else {}))
    assert (sizes(data), data.num_classes) == ([48, 3, 3, 6], 3)
    train = data.splits["train"]
    place = [
        int(np.flatnonzero((image[..., 0] == IMAGES).all((1, 2)))[0]) for image in train.examples["image"]
    ]
    np.testing.assert_array_equal(train.examples["label"], LABELS[place])
    if by_client:
        np.testing.assert_array_equal(train.clients, np.array(place) % 5)


def test_large_folders_stay_on_disk_and_stream(tmp_path, monkeypatch):
    """As equal windows and equal curves as of images in memory."""
    for part in ("train", "valid", "test"):
        folder_of_images(tmp_path / "images" / part, size=12)
    entry = {"type": "image_folder", "path": str(tmp_path / "images")}
    there = load_dataset("mine", 6, options(whole_mb=0, **entry)).splits["train"].examples["image"]
    whole = load_dataset("mine", 6, options(**entry)).splits["train"].examples["image"]
    assert isinstance(there, StoredImages)
    assert isinstance(whole, np.ndarray)
    ids = np.array([[5, 0], [7, 59]])
    np.testing.assert_array_equal(there[ids.ravel()], whole[ids.ravel()])
    np.testing.assert_array_equal(there[3:9], whole[3:9])
    monkeypatch.chdir(tmp_path)
    losses = []
    for stream in ("True", "None"):
        sizes = [
            "--num_grads=2",
            "--num_local_steps=1",
            "--local_batch_size=4",
            "--num_inner_steps=4",
            "--num_runs=1",
        ]
        sizes += ["--stream_window=16", "--stream_fresh=4", f"--stream={stream}", f"--run_dir=run{stream}"]
        which = ["--run_type=benchmark", "--optimizer=fedavg", "--task=mlp4_mine_6"]
        given = [f"datasets.mine.{key}={value}" for key, value in entry.items()]
        assert main([*which, *sizes, "--cfg-options", *given]) == 0
        losses.append((tmp_path / f"run{stream}" / "rounds.csv").read_text())
    assert losses[0] != losses[1]  # other examples, as windows move; the data is the same, see above


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    path = Path(folder_of_images(tmp_path / "images"))
    (path / "b" / "001.png").write_bytes(b"no image")
    with pytest.raises(
        UserError, match=r"b/001.png: expected an image that can be decoded, got UnidentifiedImageError"
    ):
        load(type="image_folder", path=str(path))


def test_tables_and_regressions(tmp_path):
    x = np.random.default_rng(0).normal(5.0, 3.0, (N, 4))
    np.savez(tmp_path / "a.npz", x=x, y=LABELS, hours=x[:, 0] * 2, income=x[:, 1])
    path = str(tmp_path / "a.npz")
    table = load(4, type="npz", path=path, columns={"features": "x", "label": "y"})
    assert description_of(table)[:3] == ("table", (4,), 3)
    train = table.splits["train"].examples["features"]
    np.testing.assert_allclose((train.mean(0), train.std(0)), ([0] * 4, [1] * 4), atol=1e-5)
    mixed = load(2, type="npz", path=path, columns={"features": ["hours", "income"], "target": "y"})
    assert description_of(mixed) == ("regression", (2,), 0, "from outside", 1)
    task, _ = make_task(
        "mlp4_mine_4", options(type="npz", path=path, columns={"features": "x", "label": "y"})
    )
    assert task.metrics[1].name == "accuracy"


@pytest.mark.parametrize("form", ["one sequence", "rows", "texts"])
def test_sequences(form):
    tokens = np.arange(200) % 7
    texts = np.array(["to be or not to be " * 8, "that is the question " * 8, "hm"])
    columns = {
        "one sequence": {"tokens": tokens},
        "rows": {"tokens": tokens[:180].reshape(30, 6), "client": np.arange(30) % 3},
        "texts": {"text": texts, "client": np.array(["a", "b", "a"])},
    }[form]
    with brought({("arrays", "x"): columns}):
        data = load(5, type="arrays", sha256="x")
        task, _ = make_task("transformer_h8_m8_nh2_nl1_mine_5", options(type="arrays", sha256="x"))
    train = data.splits["train"]
    assert train.examples["tokens"].shape[1] == 6
    assert data.num_classes == (256 if form == "texts" else 7)
    assert sum(sizes(data)) == {"one sequence": 39, "rows": 30, "texts": 31 + 33}[form]
    assert form == "one sequence" or set(train.clients) == set(range(3 if form == "rows" else 2))
    assert task.loss_cap == pytest.approx(1.5 * np.log(data.num_classes))


def png(image):
    """As bytes: TFDS encodes arrays with TensorFlow."""
    content = io.BytesIO()
    Image.fromarray(image).save(content, "png")
    return io.BytesIO(content.getvalue())


def test_any_tfds_set_by_name(tmp_path):
    import tensorflow_datasets as tfds

    class UsersSet(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        pkg_dir_path = tmp_path
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "picture": tfds.features.Image(shape=(6, 6, 1)),
                "digit": tfds.features.ClassLabel(num_classes=3),
                "writer": tfds.features.Text(),
            }
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(), "validation": self._generate_examples()}

        def _generate_examples(self):
            for i in range(N):
                yield i, {"picture": png(IMAGES[i]), "digit": int(LABELS[i]), "writer": WRITERS[i]}

    prepare_tfds(UsersSet, tmp_path)
    columns = {"image": "picture", "label": "digit"}
    entry = {
        "type": "tfds",
        "name": "users_set",
        "path": str(tmp_path),
        "columns": columns,
        "clients": "writer",
    }
    data = load(**entry)
    assert (sizes(data), data.num_classes) == ([54, 30, 30, 6], 3)
    large = load_dataset("mine", 6, options(whole_mb=0, **entry)).splits["train"]
    assert isinstance(large.examples["image"], StoredImages)
    np.testing.assert_array_equal(np.asarray(large.examples["image"]), data.splits["train"].examples["image"])
    np.testing.assert_array_equal(large.clients, data.splits["train"].clients)
    with pytest.raises(UserError, match=r"datasets.mine: expected TFDS data in .*tfds build users_other"):
        load(**entry | {"name": "users_other"})
    # TFDS would import what features.json names.
    [features] = tmp_path.rglob("features.json")
    text = features.read_text()
    features.write_text(
        text.replace("tensorflow_datasets.core.features.text_feature.Text", "users_trap.Text")
    )
    with pytest.raises(UserError, match=r"names the class users_trap\.Text"):
        load(**entry)


def test_hugging_face_needs_its_package(tmp_path, monkeypatch):
    from learned_aggregation.data.sources import huggingface

    monkeypatch.setattr(huggingface.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"datasets.mine: expected the package datasets .*learned-aggregation\[huggingface\]"
    ):
        load(type="huggingface", path=str(tmp_path))


@pytest.mark.extras
def test_hugging_face_data_on_disk(tmp_path):
    datasets = pytest.importorskip("datasets")
    names = datasets.ClassLabel(names=["a", "b", "c"])
    features = datasets.Features(
        {"img": datasets.Image(), "label": names, "writer": datasets.Value("string")}
    )
    rows = {"img": [Image.fromarray(image) for image in IMAGES], "label": LABELS, "writer": WRITERS}
    whole = datasets.Dataset.from_dict(rows, features=features)
    whole.save_to_disk(tmp_path / "whole")
    data = load(type="huggingface", path=str(tmp_path / "whole"), clients="writer")
    assert (sizes(data), data.num_classes) == ([48, 3, 3, 6], 3)
    train = data.splits["train"]
    place = [
        int(np.flatnonzero((image[..., 0] == IMAGES).all((1, 2)))[0]) for image in train.examples["image"]
    ]
    np.testing.assert_array_equal(train.examples["label"], LABELS[place])
    np.testing.assert_array_equal(train.clients, np.array(place) % 5)
    parts = datasets.DatasetDict({"train": whole.select(range(40)), "test": whole.select(range(40, 60))})
    parts.save_to_disk(tmp_path / "parts")
    assert sizes(load(type="huggingface", path=str(tmp_path / "parts"))) == [36, 2, 2, 20]
    texts = datasets.Dataset.from_dict({"text": ["to be or not to be"] * 90, "input_ids": [[1, 2], [3]] * 45})
    texts.save_to_disk(tmp_path / "texts")
    entry = {"type": "huggingface", "path": str(tmp_path / "texts")}
    assert load(4, **entry, columns={"tokens": "text"}).num_classes == 256
    assert load(4, **entry).num_classes == 4
    with pytest.raises(UserError, match=r"save_to_disk wrote, got .* with"):
        load(type="huggingface", path=str(tmp_path))


def test_arrays_are_known_by_what_they_hold():
    columns = {"image": IMAGES, "label": LABELS}
    assert fingerprint(columns) == fingerprint(dict(reversed(columns.items())))
    assert fingerprint(columns) != fingerprint(columns | {"label": LABELS[::-1]})
    assert fingerprint({"train": columns}) != fingerprint(columns)
    assert list(ARRAYS) == []
    with pytest.raises(UserError, match="expected the arrays in memory of a call from Python"):
        load(type="arrays", sha256=fingerprint(columns))


def test_floats_are_inputs_already():
    with brought({("arrays", "x"): {"image": IMAGES / 100.0, "label": LABELS}}):
        data = load(type="arrays", sha256="x")
        assert (data.scale, data.splits["train"].examples["image"].dtype) == (1.0, np.float32)
        with pytest.raises(UserError, match="expected images of 8 x 8, as the task's name says, got 6 x 6"):
            load(8, type="arrays", sha256="x")
