"""Sets prepared by TensorFlow Datasets: finding them, reading them without TensorFlow, saying what is missing."""

import importlib.util
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from learned_aggregation.atomic import from_home
from learned_aggregation.data import DataOptions
from learned_aggregation.errors import UserError


class Source(NamedTuple):
    """name: ours. tfds_name: TFDS's, with the config. embedded: the most similar set that needs no files."""

    name: str
    tfds_name: str
    embedded: str


def open_folder(source: Source, options: DataOptions) -> Path:
    """The folder of the newest prepared version of a set; prepares one first if that is asked for and needed.

    Raises:
      UserError: there is none; it says where it was looked for, how to get it and what to run without it.
    """
    folder = newest_version(_data_dir(options) / source.tfds_name)
    if folder is None and options.tfds_download:
        _download(source, options)
        folder = newest_version(_data_dir(options) / source.tfds_name)
    if folder is None:
        raise unusable(source, options, f"no prepared data in {_data_dir(options) / source.tfds_name}")
    if importlib.util.find_spec("tensorflow_datasets") is None:
        raise unusable(source, options, "no package tensorflow_datasets to read it with")
    try:
        _check_classes(folder)
    except ValueError as error:
        raise unusable(source, options, str(error)) from None
    return folder


def part_names(folder: Path) -> list[str]:
    """What the parts of a prepared set are called."""
    import tensorflow_datasets as tfds

    return list(tfds.builder_from_directory(folder).info.splits)


def _check_classes(folder: Path) -> None:
    """TFDS imports the classes that a set's features.json names; only TFDS's own may be there.

    Raises:
      ValueError: it names others.
    """
    path = folder / "features.json"
    named = (
        re.findall(r'"pythonClassName"\s*:\s*"([^"]*)"', path.read_text(encoding="utf-8"))
        if path.is_file()
        else []
    )
    for name in named:
        if not name.startswith("tensorflow_datasets."):
            raise ValueError(f"{path.name} that names the class {name}, which is not TFDS's")


class Part(NamedTuple):
    """A part of a set: the declared number of examples, and the decoded examples in stored order."""

    count: int
    examples: Iterator[dict[str, Any]]


def read_part(folder: Path, part: str) -> Part:
    """A part such as `train[:80%]`, whose examples are read one at a time.

    Raises:
      ValueError: no such split, or, while reading, fewer examples than declared.
      Exception: whatever TFDS and its record readers raise on damaged files.
    """
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    split = part.partition("[")[0]
    if split not in builder.info.splits:
        raise ValueError(f"no split {split}")
    count = builder.info.splits[part].num_examples
    return Part(count, _counted(_examples(builder, part), count))


def by_number(folder: Path, part: str, *, skip: str | None = None) -> Any | None:
    """A part as a sequence of examples that are read and decoded one by one; None where the files are TFRecord.

    Args:
      skip: a feature that is left as the bytes it is stored in.
    Raises:
      Exception: as `read_part`.
    """
    import tensorflow_datasets as tfds

    builder: Any = tfds.builder_from_directory(folder)
    if builder.info.file_format.value == "tfrecord":
        return None
    decoders = {skip: tfds.decode.SkipDecoding()} if skip else None
    return builder.as_data_source(split=part, decoders=decoders)


def _counted(examples: Iterator[Any], declared: int) -> Iterator[Any]:
    found = 0
    for example in examples:
        found += 1
        yield example
    if found != declared or not declared:
        raise ValueError(f"{found} examples where {declared} are declared")


def _examples(builder: Any, part: str) -> Iterator[dict[str, Any]]:
    """TFDS needs TensorFlow to read TFRecord, so we read that."""
    if builder.info.file_format.value != "tfrecord":
        yield from builder.as_data_source(split=part)
        return
    for file in builder.info.splits[part].file_instructions:
        for record in itertools.islice(_tfrecords(Path(file.filename)), file.skip, file.skip + file.take):
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


def newest_version(folder: Path) -> Path | None:
    """The subfolder `<major>.<minor>.<patch>` with the highest version that holds a prepared data set."""
    found = [path.parent for path in folder.glob("*.*.*/dataset_info.json")]
    versions = [path for path in found if all(part.isdecimal() for part in path.name.split("."))]
    return max(versions, key=lambda path: [int(part) for part in path.name.split(".")], default=None)


def _data_dir(options: DataOptions) -> Path:
    """The chosen directory, else TFDS's own default."""
    chosen = options.tfds_data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return from_home(chosen).absolute()


def _download(source: Source, options: DataOptions) -> None:
    """Lets TFDS fetch and prepare the set; needs the network, and TensorFlow to encode the images."""
    for package in ("tensorflow_datasets", "tensorflow"):
        if importlib.util.find_spec(package) is None:
            raise unusable(source, options, f"no package {package} to download and prepare it with")
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(source.tfds_name, data_dir=str(_data_dir(options)), file_format="array_record")
        builder.download_and_prepare()
    except Exception as error:  # network, disk, checksum: TFDS has no common base class for them
        raise unusable(source, options, f"a failed download ({line(error)})") from error


def line(error: Exception) -> str:
    """The first line of an error message, which must fit into ours."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def unusable(source: Source, options: DataOptions, got: str) -> UserError:
    """The message for data that cannot be had: where it should be, how to get it, what runs without it."""
    data_dir = _data_dir(options)
    return UserError(
        f"{source.name}: expected TFDS data in {data_dir}, got {got}. Prepare it with "
        f"`pip install 'learned-aggregation[tfds]' tensorflow && "
        f"tfds build {source.tfds_name} --data_dir {data_dir}` (TensorFlow is needed for this step only), "
        f"name another directory in tfds_data_dir, or run without files: {without_files(source, options)}."
    )


def without_files(source: Source, options: DataOptions) -> str:
    """What to run instead: the same task on the embedded set."""
    if options.task and f"_{source.name}_" in options.task:
        return f"--task {options.task.replace(f'_{source.name}_', f'_{source.embedded}_')}"
    return f"{source.embedded!r} in place of {source.name!r} in the task name"
