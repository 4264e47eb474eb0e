"""A run that uses a theta outside what it was meta-trained on says so, once for each method and quantity."""

from collections.abc import Iterable

from learned_aggregation import build
from learned_aggregation.config.resolve import Config
from learned_aggregation.pretrained.loading import trained_of
from learned_aggregation.pretrained.trained import Trained
from learned_aggregation.runs.messages import say
from learned_aggregation.types import Task


class RangeNotes:
    """The lines that a run has said, which become notes of it."""

    def __init__(self) -> None:
        self._said: dict[tuple[str, str], str] = {}
        self._known: dict[str, Trained] = {}

    @property
    def notes(self) -> list[str]:
        return list(self._said.values())

    def check(self, label: str, configs: Iterable[Config], task: Task) -> None:
        """Says each quantity that leaves its range in one of the configs, all points of one method on one task.

        A config counts where its `test_checkpoint` is of its rule: a comparison may name one for all its methods.
        """
        used: dict[tuple[str, str], list] = {}
        for config in configs:
            source = config.test_checkpoint
            if source is None or self._trained(source).rule != config.optimizer:
                continue
            for name, value in build.used_with(config).items():
                used.setdefault((source, name), []).append(value)
        for source in {source for source, _ in used}:
            used[source, "tensor_size"] = build.tensor_sizes(task)
        for (source, name), values in used.items():
            text = self._trained(source).left(name, values)
            if text is not None and (label, name) not in self._said:
                self._said[label, name] = f"{label}: {text}"
                say(self._said[label, name])

    def _trained(self, source: str) -> Trained:
        if source not in self._known:
            self._known[source] = trained_of(source)
        return self._known[source]
