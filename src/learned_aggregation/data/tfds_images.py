"""Image sets prepared by TensorFlow Datasets, read from disk without TensorFlow."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from learned_aggregation.data import DataOptions
from learned_aggregation.data.images import resize
from learned_aggregation.errors import UserError
from learned_aggregation.types import Dataset, Split


class _Source(NamedTuple):
    """tfds_name: TFDS's name of the set. embedded: the most similar set that needs no files."""

    tfds_name: str
    num_classes: int
    embedded: str


SOURCES = {
    "mnist": _Source("mnist", 10, "glyphs"),
    "fmnist": _Source("fashion_mnist", 10, "glyphs"),
    "c10": _Source("cifar10", 10, "glyphsrgb"),
    "c100": _Source("cifar100", 100, "glyphs62rgb"),
}


def load(name: str, size: int, options: DataOptions) -> Dataset:
    """MNIST, Fashion-MNIST, CIFAR-10 or CIFAR-100 in memory.

    The splits are train[:80%], train[80%:90%] (inner_valid), train[90%:] (outer_valid) and test, in the order
    in which TFDS stores the examples.

    Args:
      name: `mnist`, `fmnist`, `c10` or `c100`.
      size: side of the images; resized where the set's own side differs.
      options: tfds_data_dir, tfds_download and task are used.
    Returns:
      A Dataset with images uint8 [N, size, size, 1 or 3].
    Raises:
      UserError: the data is missing or cannot be read; it says where it was looked for, how to get it and
        what to run without it.
    """
    source = SOURCES[name]
    data_dir = _data_dir(options.tfds_data_dir)
    folder = _newest_version(data_dir / source.tfds_name)
    if folder is None and options.tfds_download:
        _download(name, data_dir, options)
        folder = _newest_version(data_dir / source.tfds_name)
    if folder is None:
        raise _unusable(name, data_dir, options, f"no prepared data in {data_dir / source.tfds_name}")
    if importlib.util.find_spec("tensorflow_datasets") is None:
        raise _unusable(name, data_dir, options, "no package tensorflow_datasets to read it with")
    try:
        train, test = _read(folder, "train", size), _read(folder, "test", size)
    except Exception as error:  # whatever TFDS and its record readers raise on damaged files
        raise _unusable(name, data_dir, options, f"{_line(error)} in {folder}") from error
    first, second = (round(len(train["label"]) * part) for part in (0.8, 0.9))
    splits = {
        "train": Split({key: value[:first] for key, value in train.items()}),
        "inner_valid": Split({key: value[first:second] for key, value in train.items()}),
        "outer_valid": Split({key: value[second:] for key, value in train.items()}),
        "test": Split(test),
    }
    return Dataset(name, splits, source.num_classes, 1 / 255)


def _data_dir(chosen: str | None) -> Path:
    """The chosen directory, else TFDS's own default."""
    return Path(chosen or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser().absolute()


def _newest_version(folder: Path) -> Path | None:
    """The subfolder `<major>.<minor>.<patch>` with the highest version that holds a prepared data set."""
    found = [path.parent for path in folder.glob("*.*.*/dataset_info.json")]
    versions = [path for path in found if all(part.isdecimal() for part in path.name.split("."))]
    return max(versions, key=lambda path: [int(part) for part in path.name.split(".")], default=None)


def _read(folder: Path, split: str, size: int) -> dict[str, np.ndarray]:
    """All examples of a split: image uint8 [N, size, size, channels], label int32 [N]."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    if split not in builder.info.splits:
        raise ValueError(f"no split {split}")
    info = builder.info.splits[split]
    examples = list(_examples(builder, split))
    if not examples or len(examples) != info.num_examples:
        raise ValueError(f"{len(examples)} examples where {info.num_examples} are declared")
    images = np.stack([example["image"] for example in examples])
    labels = np.array([example["label"] for example in examples], np.int32)
    return {"image": resize(images, size), "label": labels}


def _examples(builder: Any, split: str) -> Iterator[dict[str, Any]]:
    """The decoded examples in stored order. TFDS needs TensorFlow to read TFRecord, so we read that."""
    if builder.info.file_format.value != "tfrecord":
        yield from builder.as_data_source(split=split)
        return
    for path in builder.info.splits[split].filepaths:
        for record in _tfrecords(Path(path)):
            yield builder.info.features.deserialize_example_np(record)


def _tfrecords(path: Path) -> Iterator[bytes]:
    """A TFRecord file: uint64 length, uint32 checksum, data, uint32 checksum, all little-endian."""
    with path.open("rb") as file:
        while header := file.read(12):
            length = int.from_bytes(header[:8], "little")
            body = file.read(length + 4)
            if len(header) < 12 or len(body) < length + 4:
                raise ValueError(f"a truncated record in {path.name}")
            yield body[:length]


def _download(name: str, data_dir: Path, options: DataOptions) -> None:
    """Lets TFDS fetch and prepare the set; needs the network, and TensorFlow to encode the images."""
    for package in ("tensorflow_datasets", "tensorflow"):
        if importlib.util.find_spec(package) is None:
            raise _unusable(name, data_dir, options, f"no package {package} to download and prepare it with")
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(SOURCES[name].tfds_name, data_dir=str(data_dir), file_format="array_record")
        builder.download_and_prepare()
    except Exception as error:  # network, disk, checksum: TFDS has no common base class for them
        raise _unusable(name, data_dir, options, f"a failed download ({_line(error)})") from error


def _line(error: Exception) -> str:
    """The first line of an error message, which must fit into ours."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _unusable(name: str, data_dir: Path, options: DataOptions, got: str) -> UserError:
    """The message for data that cannot be had: where it should be, how to get it, what runs without it."""
    source = SOURCES[name]
    if options.task and f"_{name}_" in options.task:
        instead = f"--task {options.task.replace(f'_{name}_', f'_{source.embedded}_')}"
    else:
        instead = f"{source.embedded!r} in place of {name!r} in the task name"
    return UserError(
        f"{name}: expected TFDS data in {data_dir}, got {got}. Prepare it with "
        f"`pip install 'learned-aggregation[tfds]' tensorflow && "
        f"tfds build {source.tfds_name} --data_dir {data_dir}` (TensorFlow is needed for this step only), "
        f"name another directory in tfds_data_dir, or run without files: {instead}."
    )
