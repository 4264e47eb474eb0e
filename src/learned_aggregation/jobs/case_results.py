"""What a run of several cases and seeds keeps of each, so that it can go on: `RUN/cases/NAME.json`."""

import hashlib
import json
from pathlib import Path
from typing import Any

from learned_aggregation.atomic import write_atomic
from learned_aggregation.json_text import parse_json
from learned_aggregation.runs.messages import say

CHECKSUM = "sha256"
"""Of the rest of a result: one that is damaged may still be JSON."""


def result_path(run: Path, name: str) -> Path:
    """Where the result of the case and seed of that name is."""
    return run / "cases" / f"{name}.json"


def finished(run: Path, name: str, label: str, seed: int) -> dict[str, Any] | None:
    """The result that an earlier start left; None without one. One that is damaged is run again, and said so."""
    where = result_path(run, name)
    try:
        found = parse_json(where.read_bytes(), finite=False)
        if found.pop(CHECKSUM, None) != _checksum(found):
            raise ValueError("another checksum")
        if (found["label"], found["seed"]) == (label, seed):
            say(f"{label}, seed {seed}: finished before, skipped ({where})")
            return found
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        say(f"{where}: expected a result, got {type(error).__name__}; run again.")
    return None


def write_result(run: Path, name: str, result: dict[str, Any]) -> dict[str, Any]:
    """Writes the result of a whole run, with its label and seed in it, at once or not at all, and returns it.

    Raises:
      RunError: the disk refused.
    """
    checked = {**result, CHECKSUM: _checksum(result)}
    write_atomic(result_path(run, name), json.dumps(checked, indent=1) + "\n")
    return result


def _checksum(result: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(result).encode()).hexdigest()
