"""Reading of TFDS's own files, written here by TFDS itself, without TensorFlow."""

import io
import json

import jax
import numpy as np
import pytest
from helpers import prepare_tfds
from PIL import Image

from learned_aggregation.data import DataOptions, load_dataset, tfds_files
from learned_aggregation.errors import UserError
from learned_aggregation.tasks.objectives.classification import classification
from learned_aggregation.types import SPLITS

tfds = pytest.importorskip("tensorflow_datasets")
TRAIN, TEST = 50, 12
SHAPES = {
    "mnist": (28, 28, 1),
    "fashion_mnist": (28, 28, 1),
    "food101": (40, 64, 3),
    "imagenet2012": (90, 80, 3),
}


def make_inputs(data, batch):
    """What a model is given for a batch of a data set."""

    class Model:
        def apply(self, variables, x, train):
            seen.append(x)
            return np.zeros((len(x), data.num_classes))

    seen = []
    classification("test", Model(), data).evaluate({}, {}, jax.random.key(0), batch)
    return seen[0]


def png(image):
    """An image as a PNG file: TFDS would need TensorFlow to encode the array."""
    file = io.BytesIO()
    Image.fromarray(image.squeeze()).save(file, "PNG")
    file.seek(0)
    return file


def picture(name, number):
    """A random image of the set's own shape, fixed by its number."""
    shape = SHAPES.get(name, (32, 32, 3))
    return np.random.default_rng(number).integers(256, size=shape, dtype=np.uint8)


def prepare(data_dir, name, version="3.0.1", test="test"):
    """Writes a small set as `tfds build --file_format array_record` does; returns its folder.

    Args:
      test: the name of its second split.
    """

    class SmallImages(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version(version)

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(None, None, picture(name, 0).shape[-1])),
                "label": tfds.features.ClassLabel(num_classes=10),
            }
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(0, TRAIN), test: self._generate_examples(100, TEST)}

        def _generate_examples(self, start, count):
            for number in range(start, start + count):
                yield number, {"image": png(picture(name, number)), "label": number % 10}

    SmallImages.name = name
    prepare_tfds(SmallImages, data_dir)
    return data_dir / name / version


def to_tfrecord(folder):
    """Rewrites array_record files as TFRecord: the frame is length, checksum, data, checksum."""
    from array_record.python.array_record_module import ArrayRecordReader

    for path in sorted(folder.glob("*array_record*")):
        reader = ArrayRecordReader(str(path))
        frames = [
            len(record).to_bytes(8, "little") + bytes(4) + record + bytes(4) for record in reader.read_all()
        ]
        reader.close()
        path.with_name(path.name.replace("array_record", "tfrecord")).write_bytes(b"".join(frames))
        path.unlink()
    info = folder / "dataset_info.json"
    fields = json.loads(info.read_text())
    info.write_text(json.dumps({**fields, "fileFormat": "tfrecord"}))


@pytest.fixture(scope="module")
def fashion(tmp_path_factory):
    """A directory that holds a small fashion_mnist; not to be changed."""
    root = tmp_path_factory.mktemp("tfds")
    prepare(root, "fashion_mnist")
    return root


def load(name, size, root, **options):
    return load_dataset(name, size, DataOptions(tfds_data_dir=str(root), **options))


def images_by_split(data):
    return {name: split.examples["image"] for name, split in data.splits.items()}


def test_splits_types_and_pixels(fashion):
    data = load("fmnist", 28, fashion)
    sizes = [len(data.splits[split].examples["label"]) for split in SPLITS]
    assert sizes == [40, 5, 5, 12]
    assert (data.num_classes, data.scale) == (10, 1 / 255)
    seen = {}
    for split in data.splits.values():
        image, label = split.examples["image"], split.examples["label"]
        assert (image.dtype, label.dtype) == (np.uint8, np.int32)
        seen |= {one.tobytes(): int(number) for one, number in zip(image, label, strict=True)}
    numbers = [*range(TRAIN), *range(100, 100 + TEST)]
    assert seen == {picture("fashion_mnist", number).tobytes(): number % 10 for number in numbers}


def test_splits_are_those_of_tfds(fashion):
    builder = tfds.builder_from_directory(fashion / "fashion_mnist" / "3.0.1")
    ours = images_by_split(load("fmnist", 28, fashion))
    parts = {
        "train": "train[:80%]",
        "inner_valid": "train[80%:90%]",
        "outer_valid": "train[90%:]",
        "test": "test",
    }
    for split, part in parts.items():
        theirs = np.stack([example["image"] for example in builder.as_data_source(split=part)])
        assert np.array_equal(ours[split], theirs)


def test_tfrecord_reads_the_same_without_tensorflow(fashion, tmp_path):
    to_tfrecord(prepare(tmp_path, "fashion_mnist"))
    assert not list(tmp_path.rglob("*array_record*"))
    ours, theirs = (images_by_split(load("fmnist", 28, root)) for root in (fashion, tmp_path))
    assert all(np.array_equal(ours[split], theirs[split]) for split in SPLITS)


def test_resized_on_request(fashion):
    data = load("fmnist", 10, fashion)
    assert data.splits["train"].examples["image"].shape == (40, 10, 10, 1)


@pytest.mark.parametrize(
    ("name", "tfds_name"), [("mnist", "mnist"), ("c10", "cifar10"), ("c100", "cifar100")]
)
def test_the_other_sets_under_their_own_names(name, tfds_name, tmp_path):
    prepare(tmp_path, tfds_name, "3.0.2")
    data = load(name, 32, tmp_path)
    assert data.splits["test"].examples["image"].shape == (12, 32, 32, 1 if name == "mnist" else 3)
    assert data.num_classes == (100 if name == "c100" else 10)


def test_resized_imagenet_is_found_by_side_with_validation_as_test(tmp_path):
    folder = prepare(tmp_path, "imagenet_resized", "0.1.0", "validation")
    (tmp_path / "32x32").mkdir()
    folder.rename(tmp_path / "32x32" / "0.1.0")
    (tmp_path / "imagenet_resized").rmdir()
    (tmp_path / "imagenet_resized").mkdir()
    (tmp_path / "32x32").rename(tmp_path / "imagenet_resized" / "32x32")
    data = load("imagenet", 32, tmp_path)
    assert [len(data.splits[split].examples["label"]) for split in SPLITS] == [40, 5, 5, 12]
    assert data.num_classes == 1000
    assert np.array_equal(data.splits["test"].examples["image"][0].shape, (32, 32, 3))
    inputs = (data.splits["test"].examples["image"] / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    seen = make_inputs(data, data.splits["test"].examples)
    np.testing.assert_allclose(seen, inputs, rtol=1e-5, atol=1e-5)
    assert load("imagenet", 20, tmp_path).splits["train"].examples["image"].shape == (40, 20, 20, 3)
    with pytest.raises(
        UserError, match=r"no prepared data in .*/imagenet_resized/64x64.*tfds build imagenet_resized/64x64"
    ):
        load("imagenet", 64, tmp_path)


@pytest.mark.parametrize(
    ("name", "tfds_name", "size"), [("food101", "food101", 40), ("imagenet", "imagenet2012", 80)]
)
def test_images_that_are_not_square_are_cropped_to_their_middle(name, tfds_name, size, tmp_path):
    prepare(tmp_path, tfds_name, "2.0.0", "validation")
    data = load(name, size, tmp_path)
    images = {image.tobytes() for split in data.splits.values() for image in split.examples["image"]}
    whole = picture(tfds_name, 0)
    top, left = ((side - size) // 2 for side in whole.shape[:2])
    assert whole[top : top + size, left : left + size].tobytes() in images
    assert len(images) == TRAIN + TEST


def test_the_newest_version_wins(tmp_path):
    for version in ("3.0.1", "10.0.0", "9.0.0", "incomplete.XYZ_11.0.0"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "dataset_info.json").touch()
    (tmp_path / "12.0.0").mkdir()
    assert tfds_files.newest_version(tmp_path).name == "10.0.0"


def test_missing_data_says_where_how_and_what_instead(tmp_path):
    with pytest.raises(UserError) as caught:
        load("fmnist", 28, tmp_path, task="mlp128x128_fmnist_28")
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        f"fmnist: expected TFDS data in {tmp_path}, got no prepared data in {tmp_path}/fashion_mnist.",
        "pip install 'learned-aggregation[tfds]' tensorflow",
        f"tfds build fashion_mnist --data_dir {tmp_path}`",
        "--task mlp128x128_glyphs_28",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("name", "embedded"), [("mnist", "glyphs"), ("c10", "glyphsrgb"), ("c100", "glyphs62rgb")]
)
def test_the_set_named_instead_exists(name, embedded, tmp_path):
    with pytest.raises(UserError, match=f"run without files: '{embedded}' in place of '{name}'"):
        load(name, 28, tmp_path)
    assert load_dataset(embedded, 8, DataOptions(cache_dir=str(tmp_path))).name == embedded


def test_the_default_directory_is_that_of_tfds(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    with pytest.raises(UserError, match=f"in {tmp_path}/tensorflow_datasets, got"):
        load_dataset("mnist", 28)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "mine"))
    with pytest.raises(UserError, match=f"in {tmp_path}/mine, got"):
        load_dataset("mnist", 28)


@pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])
@pytest.mark.parametrize("damage", ["truncate", "remove", "metadata"])
def test_damaged_data_is_one_clear_line(file_format, damage, tmp_path):
    folder = prepare(tmp_path, "fashion_mnist")
    if file_format == "tfrecord":
        to_tfrecord(folder)
    (file,) = folder.glob("*test*")
    if damage == "truncate":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "remove":
        file.unlink()
    else:
        (folder / "features.json").write_text("{")
    with pytest.raises(UserError, match="fmnist: expected TFDS data in") as caught:
        load("fmnist", 28, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kept", "message"), [(-100, "a truncated record in"), (0, "0 examples where 12 are declared")]
)
def test_records_that_are_lost_are_noticed(kept, message, tmp_path):
    folder = prepare(tmp_path, "fashion_mnist")
    to_tfrecord(folder)
    (file,) = folder.glob("*test*")
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(UserError, match=message):
        load("fmnist", 28, tmp_path)


def test_no_download_unless_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds, "builder", lambda *_, **__: pytest.fail("asked TFDS for a download"))
    with pytest.raises(UserError, match="got no prepared data"):
        load("mnist", 28, tmp_path)


def test_a_failed_download_is_the_same_message(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ConnectionError("no route to host\nand a long trace")

    monkeypatch.setattr(tfds, "builder", fail)
    monkeypatch.setattr(tfds_files.importlib.util, "find_spec", lambda name: name)
    with pytest.raises(UserError, match=r"got a failed download \(no route to host\)\. Prepare it with"):
        load("mnist", 28, tmp_path, tfds_download=True)


def test_a_download_is_read_when_it_succeeds(tmp_path, monkeypatch):
    class Builder:
        def download_and_prepare(self):
            prepare(tmp_path, "mnist")

    monkeypatch.setattr(tfds, "builder", lambda *_, **__: Builder())
    monkeypatch.setattr(tfds_files.importlib.util, "find_spec", lambda name: name)
    assert len(load("mnist", 28, tmp_path, tfds_download=True).splits["test"].examples["label"]) == TEST


@pytest.mark.parametrize("package", ["tensorflow_datasets", "tensorflow"])
def test_a_missing_package_is_named(package, tmp_path, monkeypatch):
    monkeypatch.setattr(
        tfds_files.importlib.util, "find_spec", lambda name: None if name == package else name
    )
    with pytest.raises(UserError, match=f"got no package {package} to download"):
        load("mnist", 28, tmp_path, tfds_download=True)
