"""The command line: settings in, an exit status out."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from learned_aggregation.config.outside import modules_of
from learned_aggregation.config.resolve import config_text, read_command_line
from learned_aggregation.errors import RunError, UserError
from learned_aggregation.outside import blamed


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what the flags ask for.

    Args:
      argv: without the program's name; None is this process's.
    Returns:
      0; 2 for bad input and 1 for a run that could not go on, an error in a module that the settings name among them,
      each with one line on stderr; 130 when interrupted. Any other exception is a bug and comes out as it is.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    modules: set[str] = set()
    try:
        asked = read_command_line(argv or ["--help"])
        modules = modules_of(vars(asked.config))
        if asked.print_config:
            print(config_text(asked.config), end="")
            return 0
        if asked.list_tasks:
            from learned_aggregation.build import data_options
            from learned_aggregation.tasks.listing import list_tasks

            print(list_tasks(data_options(asked.config)))
            return 0
        from learned_aggregation import jobs  # imports JAX: not before the settings are known to be good

        return jobs.run(asked.config, _command(argv))
    except (UserError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        told = blamed(error, modules)
        if told is None or sys.flags.dev_mode:
            raise
        print(f"error: {told}", file=sys.stderr)
        return RunError.exit_status


def _command(argv: Sequence[str]) -> str:
    """The command that repeats this run, for the run's own record."""
    program = ["python", "src/main.py"] if Path(sys.argv[0]).name == "main.py" else ["learned-aggregation"]
    return shlex.join([*program, *argv])
