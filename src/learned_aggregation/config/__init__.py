"""Settings: the table, their checks, flags and files; `resolve` makes a Config of a command line."""

from importlib import import_module
from typing import Any

_RESOLVE = (
    "CommandLine",
    "Config",
    "config_text",
    "load_config",
    "meta_train_name",
    "read_command_line",
    "run_dir",
)


def __getattr__(name: str) -> Any:
    """What `config.resolve` offers, imported on first use; here for whoever imports it from here."""
    if name not in _RESOLVE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.resolve"), name)
