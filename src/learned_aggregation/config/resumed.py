"""What a resumed run does otherwise than the run that it goes on with, read off the two configs' texts.

A config's text is read as literals, never run: it lies in a checkpoint.
"""

import ast
from typing import Any

from learned_aggregation.config.kinds import brief
from learned_aggregation.config.settings import MACHINE, SAVE, SETTINGS, TEST, TRACK

MARK = "# Resumed at outer step "
"""How the lines begin that a config's text has of every time that it was resumed with other settings."""

_WITHOUT_EFFECT = (
    *(row.name for row in SETTINGS.values() if row.group in (MACHINE, SAVE, TEST, TRACK)),
    *("name", "name_suffix", "run_dir", "num_outer_steps", "run_type", "test_checkpoint"),
    *("cache_dir", "tfds_data_dir", "tfds_download", "stream_threads", "device_data_mb"),
)
"""Settings that say where and how long, and change no outer step."""


def settings_in(text: str) -> dict[str, Any]:
    """The settings that a config's text assigns; what is no literal is left out.

    Example:
      >>> settings_in("seed = 3\\n# a comment\\nname = print('x')\\n")
      {'seed': 3}
    """
    found = {}
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    for statement in statements:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            try:
                found[statement.targets[0].id] = ast.literal_eval(statement.value)
            except (ValueError, TypeError, RecursionError, MemoryError):
                continue
    return found


def changes(before: str, now: str) -> list[str]:
    """What differs from one config's text to another's, of the settings that change an outer step: `seed=5 (was 0)`.

    A setting that the older text does not have counts as at its default.

    Example:
      >>> changes("seed = 0\\nsave_iter = 1\\n", "seed = 5\\nsave_iter = 2\\n")
      ['seed=5 (was 0)']
    """
    defaults = {row.name: row.default for row in SETTINGS.values()}
    old, new = defaults | settings_in(before), defaults | settings_in(now)
    names = [name for name in defaults if name not in _WITHOUT_EFFECT and old[name] != new[name]]
    return [f"{name}={brief(new[name])} (was {brief(old[name])})" for name in names]


def resumed_text(before: str, now: str, step: int) -> tuple[str, str]:
    """The config's text of a run that is resumed, and what differs.

    Args:
      before: of the checkpoint; now: of the settings that it is resumed with; step: outer steps done.
    Returns:
      (`now` under the lines of each time that settings changed, the last change in words or "").
    """
    lines = [line for line in before.splitlines() if line.startswith(MARK)]
    words = ", ".join(changes(before, now))
    lines += [f"{MARK}{step} with {words}"] if words else []
    return "".join(f"{line}\n" for line in lines) + now, words


def resumed_lines(text: str) -> list[str]:
    """When a run was resumed with other settings, and with which, in words; from its config's text."""
    return [line.removeprefix("# ") for line in text.splitlines() if line.startswith(MARK)]
