"""The command line's flags, made from the table of settings."""

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from learned_aggregation import __version__
from learned_aggregation.config.kinds import refuse
from learned_aggregation.config.replaced import advice
from learned_aggregation.config.settings import RUN, SETTINGS, Setting
from learned_aggregation.errors import UserError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        refuse("command line", "flags as in --help", message, "See --help.")


def parser() -> argparse.ArgumentParser:
    """The flags, made from the table of settings."""
    made = _Parser(
        prog="learned-aggregation",
        usage="%(prog)s --config FILE [flags]",
        description="Meta-train, benchmark, sweep and compare server-side optimizers.",
        epilog="Flags go over --cfg-options, these over the file, and the file over the defaults.",
        allow_abbrev=False,
        exit_on_error=False,
        argument_default=argparse.SUPPRESS,
    )
    made.add_argument("--version", action="version", version=__version__)
    made.add_argument("--print_config", action="store_true", help="print the resolved config and exit")
    made.add_argument("--list_tasks", action="store_true", help="print the named tasks and exit")
    groups: dict[str, Any] = {}
    for row in SETTINGS.values():
        if row.group not in groups:
            groups[row.group] = made.add_argument_group(row.group)
        if row.flag:
            _add_flag(groups[row.group], row)
    options = ("--cfg-options", "--cfg_options")
    text = "settings inside dicts too: schedule.peak_value=1e-3"
    run = groups[RUN]
    run.add_argument("--config", metavar="FILE", help="a config file, see config/")
    run.add_argument(*options, nargs="+", action="extend", metavar="KEY=VALUE", help=text)
    return made


def _add_flag(group: Any, row: Setting) -> None:
    shown = "none" if row.default in ("", (), None) else row.default
    text = f"{row.help} (default: {shown})".replace("%", "%%")
    alone = {"nargs": "?", "const": "True"} if isinstance(row.default, bool) else {}
    group.add_argument(f"--{row.name}", metavar=row.kind.metavar, help=text, **alone)


def parse_flags(argv: Sequence[str]) -> dict[str, Any]:
    """The flags of a command line: settings as unread text, `config`, `cfg_options`, `print_config`, `list_tasks`.

    Raises:
      UserError: an unknown flag, a flag without its value.
      SystemExit: --help and --version.
    """
    made = parser()
    try:
        flags, unknown_flags = made.parse_known_args(list(argv))
    except argparse.ArgumentError as error:
        raise UserError(f"{error.argument_name}: {error.message}. --help says what it takes.") from None
    if unknown_flags:
        _refuse_flag(unknown_flags[0].split("=")[0])
    return vars(flags)


def _refuse_flag(flag: str) -> NoReturn:
    if not flag.startswith("-"):
        refuse("command line", "flags and their values only", flag, "Write --name value.")
    name = flag.lstrip("-")
    if name in SETTINGS:
        refuse("command line", "a flag", flag, f"Set {name} in the config file or with --cfg-options.")
    known = [
        "config",
        "cfg-options",
        "print_config",
        "list_tasks",
        *(row.name for row in SETTINGS.values() if row.flag),
    ]
    refuse("command line", "a flag that exists", flag, advice(name, known, "--"))
