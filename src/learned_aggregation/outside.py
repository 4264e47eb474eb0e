"""Modules of the user's: importing them, and saying where in them an error was raised.

Only what the user's config, command line or call names comes here.
"""

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from learned_aggregation.errors import RunError, UserError


def import_outside(module: str, attribute: str | None, where: str) -> Any:
    """The module, or the object at `module:attribute`.

    Args:
      where: what named it; begins the message.
    Raises:
      UserError: no such module or attribute; an error raised while the module is imported, with its file and line.
    """
    try:
        found = importlib.import_module(module)
    except (UserError, RunError):
        raise
    except (Exception, SystemExit) as error:  # whatever the user's code raises
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and (module == missing or module.startswith(f"{missing}.")):
            raise UserError(
                f"{where}: expected a module that is there, got {module!r} and no module named {missing!r}. "
                "Start the command in the folder that has it, install it, or put its folder on PYTHONPATH."
            ) from None
        raise UserError(
            f"{where}: expected a module that can be imported, got {module!r} with {described(error, [module])}. "
            "Fix the module."
        ) from error
    for name in attribute.split(".") if attribute else ():
        try:
            found = getattr(found, name)
        except AttributeError:
            made = [n for n, item in vars(found).items() if getattr(item, "__module__", None) == module]
            public = ", ".join(n for n in made or dir(found) if n[0] != "_") or "nothing"
            raise UserError(
                f"{where}: expected an attribute of {module} ({public[:150]}), got {attribute!r}. Check the name."
            ) from None
    return found


def described(error: BaseException, modules: Iterable[str]) -> str:
    """`NameError: name 'jnp' is not defined, at rules.py, line 3`: on one line."""
    place = _place(error, modules)
    return f"{_told(error)}, at {place}" if place else _told(error)


def blamed(error: BaseException, modules: Iterable[str]) -> str | None:
    """The whole message for an error that the user's modules led to, with its place in them; None for any other."""
    place = _place(error, modules)
    if not place:
        return None
    return f"{place}: expected code that runs, got {_told(error)}. Fix it; PYTHONDEVMODE=1 shows the whole traceback."


def _told(error: BaseException) -> str:
    text = str(error.msg) if isinstance(error, SyntaxError) else str(error)
    return " ".join(f"{type(error).__name__}: {text}".split())[:500].rstrip(".")


def _place(error: BaseException, modules: Iterable[str]) -> str:
    """The deepest file and line of the user's modules that the error came through."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    roots = {module.partition(".")[0] for module in modules}
    found, trace = "", error.__traceback__
    while trace is not None:
        if _root(trace) in roots:
            found = f"{_short(trace.tb_frame.f_code.co_filename)}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return found


def _root(trace: TracebackType) -> str:
    return str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0]


def _short(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file


def find_modules_here() -> None:
    """Lets modules in the current folder be imported, as `python -m` does; installed ones go before them."""
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
