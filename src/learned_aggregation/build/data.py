"""A config's data: a task's data set, divided over clients, resident or streamed."""

from typing import NamedTuple

import numpy as np

from learned_aggregation.config.resolve import Config
from learned_aggregation.data import DataOptions
from learned_aggregation.data.partitions import PARTITIONS, partition, split_labels
from learned_aggregation.data.streaming import Data, Streaming, resident_or_streamed
from learned_aggregation.tasks import make_task
from learned_aggregation.types import Dataset, Task


class TaskData(NamedTuple):
    """A task, its data set on the host and the rows of each client of the train split."""

    task: Task
    dataset: Dataset
    rows: list[np.ndarray]


def data_options(config: Config) -> DataOptions:
    return DataOptions(
        tfds_data_dir=config.tfds_data_dir,
        tfds_download=config.tfds_download,
        cache_dir=config.cache_dir,
        vocabulary=config.vocabulary,
        text_file=config.text_file,
        fsdd_file=config.fsdd_file,
        whole_mb={None: config.device_data_mb, True: 0, False: None}[config.stream],
        datasets=config.datasets,
    )


def streaming(config: Config) -> Streaming:
    return Streaming(
        config.stream,
        config.device_data_mb,
        config.stream_window,
        config.stream_fresh,
        config.augment,
        config.stream_threads,
        config.seed,
    )


def load_task(config: Config, name: str) -> TaskData:
    """The task with its data divided over clients."""
    return _divided(config, *_made(config, name))


def _made(config: Config, name: str) -> tuple[Task, Dataset]:
    return make_task(name, data_options(config), config.remat, config.objective, config.objective_options)


def _divided(config: Config, task: Task, dataset: Dataset) -> TaskData:
    train = dataset.splits["train"]
    options = {
        "dirichlet": {"alpha": config.partition_alpha},
        "shards": {"shards_per_client": config.classes_per_client},
    }
    PARTITIONS.check(config.partition)
    rows = partition(
        config.partition,
        split_labels(train),
        train.clients,
        _population(config, train.clients),
        config.seed,
        **options.get(config.partition, {}),
    )
    return TaskData(task, dataset, rows)


class Loader:
    """Loads each task once, and divides its data once for all configs that divide it alike."""

    def __init__(self) -> None:
        self._made: dict[tuple, tuple[Task, Dataset]] = {}
        self._loaded: dict[tuple, TaskData] = {}

    def load(self, config: Config, task: str) -> TaskData:
        names = ("partition", "num_clients", "num_grads", "partition_alpha", "classes_per_client", "seed")
        shared = config.partition == "shared"
        made = (task, config.objective, tuple(sorted(config.objective_options.items())))
        key = (made, shared or tuple(getattr(config, name) for name in names))
        if key not in self._loaded:
            if made not in self._made:
                self._made[made] = _made(config, task)
            self._loaded[key] = _divided(config, *self._made[made])
        return self._loaded[key]


def _population(config: Config, natural: np.ndarray | None) -> int:
    if config.partition == "shared":
        return 1
    if config.partition == "natural" and natural is not None and config.num_clients is None:
        return len(np.unique(natural))
    return config.num_clients or config.num_grads


def train_data(config: Config, loaded: TaskData) -> Data:
    return resident_or_streamed(loaded.dataset.splits["train"], loaded.rows, streaming(config))


def whole_split(config: Config, loaded: TaskData, split: str) -> Data:
    """A held-out split as one shared pool; never augmented."""
    data = loaded.dataset.splits[split]
    pool = [np.arange(len(split_labels(data)))]
    return resident_or_streamed(data, pool, streaming(config)._replace(augment=()))
