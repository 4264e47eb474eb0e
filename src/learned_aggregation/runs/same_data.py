"""A run that goes on does so with the data that it began with."""

import json
from collections.abc import Mapping
from pathlib import Path

from learned_aggregation.atomic import write_atomic
from learned_aggregation.errors import UserError
from learned_aggregation.json_text import parse_json
from learned_aggregation.runs.messages import say

FILE = "data.json"


def check_same_data(path: Path, digests: Mapping[str, str | None]) -> None:
    """Keeps in `path`/data.json what data a run has, at its first start; at later ones it must be the same.

    Args:
      digests: of each data set by name, see `data.digest`; None for what cannot change.
    Raises:
      UserError: the run began with other data; nothing was written.
      RunError: the disk refused.
    """
    now = {name: digest for name, digest in digests.items() if digest is not None}
    if not now:
        return
    before = _read(path / FILE)
    changed = [name for name in now if before.get(name, now[name]) != now[name]]
    if changed:
        raise UserError(
            f"{path}: expected the data that this run began with, got other content for {', '.join(changed)}. "
            "Put it back, or choose another --run_dir."
        )
    write_atomic(path / FILE, json.dumps({**before, **now}, indent=2) + "\n")


def _read(file: Path) -> dict[str, str]:
    """Nothing where there is no file; of a damaged one, which is said, what is whole."""
    try:
        found = parse_json(file.read_bytes())
        whole = {name: digest for name, digest in found.items() if isinstance(digest, str)}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError):
        found, whole = None, {}
    if found != whole:
        say(f"{file}: expected what data this run began with, got a damaged file; written anew.")
    return whole
