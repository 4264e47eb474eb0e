"""The command line: settings in, an exit status out. Nothing heavy is imported before an interrupt would be quiet."""

import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from learned_aggregation.errors import RunError, UserError, one_line
from learned_aggregation.outside import blamed
from learned_aggregation.streams import open_closed, say, show_any_text, to_stdout


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what the flags ask for.

    Args:
      argv: without the program's name; None is this process's.
    Returns:
      0; 2 for bad input and 1 for a run that could not go on, an error in a module that the settings name among them,
      each with one line on stderr; 130 when interrupted. Any other exception is a bug and comes out as it is.
    """
    modules: set[str] = set()
    try:
        if argv is None:
            _take_interrupts(signal.default_int_handler, signal.SIG_DFL)
        open_closed()
        show_any_text()
        return _run(sys.argv[1:] if argv is None else list(argv), modules)
    except (UserError, RunError) as error:
        say(f"error: {error}")
        return error.exit_status
    except OSError as error:  # the system's, in a place that nothing else foresees
        where, reason = error.filename or "system", error.strerror or error
        expected = f"{where}: expected the system to allow it, got {str(reason)!r}. Remove the cause, then run again."
        say(one_line(f"error: {expected}"))
        return 1
    except MemoryError as error:
        reason = f"got {str(error) or 'too little'!r}. Lower the sizes: see --help."
        say(one_line(f"error: memory: expected enough of it, {reason}"))
        return 1
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        told = blamed(error, modules)
        if told is None or sys.flags.dev_mode:
            raise
        say(f"error: {told}")
        return RunError.exit_status


def _take_interrupts(now: Any, then: Any) -> None:
    """Has SIGINT handled by `then` if it is `now`; where it is ignored, or somebody else's, it stays so.

    Until a run begins SIGINT just ends the process: a KeyboardInterrupt that is raised while one of JAX's libraries is
    being loaded may crash it.
    """
    here = threading.current_thread() is threading.main_thread()
    if here and signal.getsignal(signal.SIGINT) is now:
        signal.signal(signal.SIGINT, then)


def _run(argv: Sequence[str], modules: set[str]) -> int:
    """What `main` does; the modules that the settings name are added to `modules`."""
    from learned_aggregation.config.outside import modules_of
    from learned_aggregation.config.resolve import config_text, read_command_line

    asked = read_command_line(argv or ["--help"])
    modules |= modules_of(vars(asked.config))
    if asked.print_config:
        with to_stdout():
            print(config_text(asked.config), end="")
        return 0
    if asked.list_tasks:
        from learned_aggregation.build import data_options
        from learned_aggregation.tasks.listing import list_tasks

        text = list_tasks(data_options(asked.config))
        with to_stdout():
            print(text)
        return 0
    import jax  # noqa: F401  # not before the settings are known to be good

    from learned_aggregation import jobs

    _take_interrupts(signal.SIG_DFL, signal.default_int_handler)
    return jobs.run(asked.config, _command(argv))


def _command(argv: Sequence[str]) -> str:
    """The command that repeats this run, for the run's own record."""
    program = ["python", "src/main.py"] if Path(sys.argv[0]).name == "main.py" else ["learned-aggregation"]
    return shlex.join([*program, *argv])
