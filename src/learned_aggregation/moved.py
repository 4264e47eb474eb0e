"""Modules under the names that they had before they were sorted into wings: what is imported by them still is."""

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_PACKAGE = __name__.rpartition(".")[0]

MOVED = {
    "card": "pretrained.card",
    "classical": "aggregators.classical",
    "checkpoint": "runs.checkpoint",
    "clients": "federated.clients",
    "distributed": "devices.distributed",
    "drop_in": "pretrained.drop_in",
    "estimators": "meta_training.estimators",
    "inner_problem": "problems.inner_problem",
    "learned": "aggregators.learned",
    "loading": "pretrained.loading",
    "local_training": "federated.local_training",
    "meta_test": "meta_testing.program",
    "meta_train": "meta_training.loop",
    "mup": "problems.mup",
    "parallel": "devices.parallel",
    "task_augmentation": "problems.task_augmentation",
    "theta_file": "pretrained.theta_file",
    "trackers": "runs.trackers",
    "unroll": "meta_training.unroll",
}
"""Old name -> new name, both within the package."""


class _Finder:
    """Finds `learned_aggregation.OLD` as the module NEW itself, so that both names are one module.

    A finder and a loader by their methods: importing their base classes would take as long as --help may.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.rpartition(".")
        loader: Any = self
        return ModuleSpec(fullname, loader) if package == _PACKAGE and name in MOVED else None

    def create_module(self, spec: ModuleSpec) -> None:
        """Python's own empty module, which `exec_module` replaces."""

    def exec_module(self, module: ModuleType) -> None:
        new = f"{_PACKAGE}.{MOVED[module.__name__.rpartition('.')[2]]}"
        sys.modules[module.__name__] = importlib.import_module(new)


FUNCTIONS = ("meta_train",)
"""Old names of modules that are functions of the package now: `learned_aggregation.meta_train(...)` is the function,
`from learned_aggregation.meta_train import ...` still finds the module."""


class _Package(ModuleType):
    """The package, which does not let the import of such a module hide the function."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in FUNCTIONS and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


def install() -> None:
    """Makes the old names importable; only what nothing else finds is looked up here."""
    sys.modules[_PACKAGE].__class__ = _Package
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        finder: Any = _Finder()
        sys.meta_path.append(finder)
