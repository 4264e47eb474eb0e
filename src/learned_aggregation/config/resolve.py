"""Flags, options and files -> one frozen, validated Config; and a Config as a file."""

import hashlib
import pprint
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from learned_aggregation import __version__
from learned_aggregation.config.config_file import load_file, merge_options, parse_options
from learned_aggregation.config.flags import parse_flags
from learned_aggregation.config.kinds import mapping, refuse
from learned_aggregation.config.replaced import advice
from learned_aggregation.config.settings import SETTINGS, SWEPT, Config, check_all
from learned_aggregation.outside import find_modules_here
from learned_aggregation.pretrained.base_settings import base_settings
from learned_aggregation.pretrained.names import card_settings

__all__ = [
    "CommandLine",
    "Config",
    "config_text",
    "load_config",
    "meta_train_name",
    "read_command_line",
    "run_dir",
    "with_settings",
]


BY_OPTIMIZER = "by_optimizer"
"""A key of config files that is no setting of a run: optimizer -> settings that are its defaults."""


LONGEST_NAME = 200
"""Bytes of a built name: a directory's may have 255, with a run_type before it and a number after it."""


class CommandLine(NamedTuple):
    """What a command line asks for."""

    config: Config
    print_config: bool
    list_tasks: bool


def load_config(argv: Sequence[str]) -> Config:
    """The Config that a command line resolves to; see `read_command_line`."""
    return read_command_line(argv).config


def read_command_line(argv: Sequence[str]) -> CommandLine:
    """Flags over --cfg-options over the file over the defaults; a flag not given overrides nothing.

    A pretrained aggregator as test_checkpoint brings its optimizer and options in place of the defaults; the path of a
    theta, its base where none is asked for. The row of the file's `by_optimizer` that belongs to the optimizer,
    whoever names it, goes over both.

    Args:
      argv: without the program's name.
    Raises:
      UserError: one line naming the flag, or the file and key, at fault.
      SystemExit: --help and --version.
    Example:
      >>> read_command_line(["--optimizer", "fedavg", "--num_grads", "4"]).config.num_grads
      4
    """
    find_modules_here()
    flags = parse_flags(argv)
    file, options = flags.pop("config", None), flags.pop("cfg_options", [])
    print_config, list_tasks = flags.pop("print_config", False), flags.pop("list_tasks", False)
    values = load_file(file, "--config") if file else {}
    sources = {name: f"{file}: {name}" for name in values}
    if options:
        parsed = parse_options(options)
        values = merge_options(values, parsed)
        sources |= {key.split(".")[0]: f"--cfg-options {key.split('.')[0]}" for key in parsed}
    _import_first(values, sources, flags)
    table_source = sources.pop(BY_OPTIMIZER, BY_OPTIMIZER)
    table = _check_by_optimizer(table_source, values.pop(BY_OPTIMIZER, {}))
    _check_known(values, sources)
    for name, text in flags.items():
        values[name] = SETTINGS[name].kind.read(text)
        sources[name] = f"--{name}"
    defaults = {row.name: row.default for row in SETTINGS.values()}
    optimizer = (defaults | card_settings(values) | values)["optimizer"]
    row = table.get(optimizer, {}) if isinstance(optimizer, str) else {}
    sources = {name: f"{table_source}.{optimizer}.{name}" for name in row} | sources
    values = row | values
    values = defaults | card_settings(values) | values
    values |= base_settings(values)
    config = Config(**check_all(values, lambda name: sources.get(name, name)))
    if table:
        _check_one_optimizer(table_source, config)
    return CommandLine(config, print_config, list_tasks)


def _import_first(values: Mapping[str, Any], sources: Mapping[str, str], flags: Mapping[str, str]) -> None:
    """What the modules register may be named by a row of by_optimizer, which is checked before the settings are."""
    kind = SETTINGS["custom_imports"].kind
    if "custom_imports" in flags:
        kind.check("--custom_imports", kind.read(flags["custom_imports"]))
    elif "custom_imports" in values:
        kind.check(sources["custom_imports"], values["custom_imports"])


def config_of(values: Mapping[str, Any]) -> Config:
    """The Config of some settings, a pretrained aggregator's card and the defaults giving the others.

    Raises:
      UserError: an unknown setting, a value that does not fit.

    Example:
      >>> config_of({"num_grads": 4}).num_grads
      4
    """
    for name in values:
        if name not in SETTINGS:
            refuse("settings", "a setting that exists", name, advice(name, list(SETTINGS)))
    defaults = {row.name: row.default for row in SETTINGS.values()}
    complete = defaults | card_settings(values) | dict(values)
    return Config(**check_all(complete | base_settings(complete), lambda name: name))


def with_settings(config: Config, settings: Mapping[str, Any]) -> Config:
    """The config with other settings; those of a theta that they name come with it, as on a command line."""
    changed = replace(config, **(card_settings(settings) | dict(settings)))
    base = base_settings(vars(changed))
    return replace(changed, **base) if base else changed


def _check_by_optimizer(where: str, value: Any) -> dict[str, dict[str, Any]]:
    """The table of a file, every row checked, also those of optimizers that do not run."""
    example = "dict(adam=dict(learning_rate=0.01))"
    allowed = [name for name in SWEPT if name not in ("optimizer", "task")]
    table = {}
    for optimizer, settings in mapping(where, value, example).items():
        SETTINGS["optimizer"].kind.check(where, optimizer)
        table[optimizer] = mapping(f"{where}.{optimizer}", settings, example)
        for name, setting in table[optimizer].items():
            place = f"{where}.{optimizer}"
            if name not in allowed:
                refuse(place, "a setting that may depend on the optimizer", name, advice(name, allowed))
            SETTINGS[name].kind.check(f"{place}.{name}", setting)
    return table


def _check_one_optimizer(where: str, config: Config) -> None:
    """A comparison, and a sweep over optimizers, would take one optimizer's row for all of them."""
    swept = (config.sweep_config or {}).get("parameters", {})
    if config.entrants or "optimizer" in swept:
        what = "entrants" if config.entrants else "a sweep over optimizer"
        refuse(where, "a run of one optimizer", what, "Remove by_optimizer: write settings into entrants.")


def _check_known(values: Mapping[str, Any], sources: Mapping[str, str]) -> None:
    for name in values:
        if name not in SETTINGS:
            where = sources[name].removesuffix(f" {name}").removesuffix(":")
            refuse(where, "a setting that exists", name, advice(name, (*SETTINGS, BY_OPTIMIZER)))


def config_text(config: Config) -> str:
    """The config as an MMEngine file that loads to an equal Config."""
    lines = [f"# Resolved by learned-aggregation {__version__}; to run it: learned-aggregation --config FILE"]
    group = ""
    for row in SETTINGS.values():
        if row.group != group:
            group = row.group
            lines.append(f"\n# {group}")
        text = pprint.pformat(getattr(config, row.name), width=100, sort_dicts=False)
        # MMEngine substitutes {{...}} everywhere; only a quoted text can hold two braces in a row here.
        text = text.replace("{{", r"{\x7b")
        lines.append(f"{row.name} = {text}")
    return "\n".join(lines) + "\n"


def meta_train_name(config: Config) -> str:
    """`{optimizer}{hidden_size}_{task}_K{num_grads}_H{num_local_steps}_{local_learning_rate}{name_suffix}`.

    With `problems` the task is `mixture`; the numbers are the run's own. A name that would be too long for a directory
    ends in a hash of the whole.
    """
    if config.name is not None:
        return config.name
    sizes = f"K{config.num_grads}_H{config.num_local_steps}_{config.local_learning_rate}"
    tasks = config.task if isinstance(config.task, str) else "+".join(config.task)
    tasks = "mixture" if config.problems else tasks
    # A colon of package.module:attribute is one that not every file system takes.
    what = f"{config.optimizer}{config.hidden_size}_{tasks}".replace(":", ".")
    name = f"{what}_{sizes}{config.name_suffix}"
    if len(name.encode()) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return f"{name.encode()[: LONGEST_NAME - 13].decode(errors='ignore')}_{digest}"


def run_dir(config: Config) -> Path:
    """Where the run's files go: `run_dir`, or runs/NAME.

    A built name begins with the run_type unless that is meta-train.
    """
    if config.run_dir is not None:
        return Path(config.run_dir)
    named = config.name is not None or config.run_type == "meta-train"
    return Path("runs") / (
        meta_train_name(config) if named else f"{config.run_type}_{meta_train_name(config)}"
    )
