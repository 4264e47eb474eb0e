"""Settings that name something registered: an aggregator, a task, a tracker.

Registries are imported when a name is checked and not before, so that `--help` comes at once.
"""

from collections.abc import Iterable
from typing import Any

from learned_aggregation.config.kinds import choice, names, refuse


def optimizers() -> Iterable[str]:
    """Every aggregator's name."""
    from learned_aggregation.aggregators import AGGREGATORS

    return AGGREGATORS


def local_optimizers() -> Iterable[str]:
    """Every client optimizer's name."""
    from learned_aggregation.federated.clients import LOCAL_OPTIMIZERS

    return LOCAL_OPTIMIZERS


def estimators() -> Iterable[str]:
    """Every meta-gradient estimator's name."""
    from learned_aggregation.meta_training.estimators import ESTIMATORS

    return ESTIMATORS


def partitions() -> Iterable[str]:
    """Every way to divide examples over clients."""
    from learned_aggregation.data.partitions import PARTITIONS

    return PARTITIONS


def objectives() -> Iterable[str]:
    """Every objective's name."""
    from learned_aggregation.tasks.objectives import OBJECTIVES

    return OBJECTIVES


def trackers() -> Iterable[str]:
    """Every tracker's name."""
    from learned_aggregation.runs.trackers import TRACKERS

    return TRACKERS


def check_tasks(where: str, value: Any) -> str | tuple[str, ...]:
    """One task name, or a tuple of several; whether there are such tasks depends on `datasets`, see `cross_checks`."""
    kind = names(lambda where, value: value, what="a task name or several", such_as="mlp32_digits_8")
    checked = kind.check(where, value)
    if not checked:
        refuse(where, "a task name or several", value, "Name a task such as 'mlp32_digits_8'.")
    return checked[0] if len(checked) == 1 else checked


def check_trackers(where: str, value: Any) -> tuple[str, ...]:
    """Trackers besides metrics.csv, which is always written."""
    kind = names(choice(trackers).check, what="names of trackers", such_as="wandb")
    return tuple(name for name in kind.check(where, () if value is None else value) if name != "csv")


def check_augment(where: str, value: Any) -> tuple[str, ...]:
    """Augmentations of training images."""
    from learned_aggregation.data.augment import AUGMENTATIONS

    kind = names(choice(lambda: AUGMENTATIONS).check, what="names of augmentations", such_as="crop,flip")
    return kind.check(where, () if value is None else value)


def check_permute(where: str, value: Any) -> tuple[str, ...]:
    """What each episode permutes."""
    from learned_aggregation.problems.task_augmentation import PERMUTED

    kind = names(choice(lambda: PERMUTED).check, what="names of what is permuted", such_as="inputs,labels")
    return kind.check(where, () if value is None else value)


def check_probe_names(where: str, value: Any) -> tuple[str, ...]:
    """Probes of an encoder; JAX is imported where there are some."""
    if value is None or value == ():
        return ()
    from learned_aggregation.ssl.probes import PROBES

    kind = names(choice(lambda: PROBES).check, what="names of probes", such_as="linear50,knn")
    return kind.check(where, value)
