"""`siammae` as the registry of objectives knows it."""

from typing import Any

from learned_aggregation.ssl.siamese import SiameseSizes
from learned_aggregation.ssl.siamese_task import SiameseOptions, siamese_options, siamese_task
from learned_aggregation.tasks.objectives import Objective
from learned_aggregation.types import Dataset, Task


def make(name: str, model: SiameseSizes, dataset: Dataset, **options: Any) -> Task:
    """`siamese_task` with the options of a config, see `siamese_task.SiameseOptions`."""
    return siamese_task(name, model, dataset, siamese_options(options))


OBJECTIVE = Objective(
    kinds=("video",),
    outputs=lambda about: about.shape[-1],
    make=make,
    options=SiameseOptions()._asdict(),
)
