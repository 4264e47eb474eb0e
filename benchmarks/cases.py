"""Inputs that failed once, each by its script: what it prints now. `python -m benchmarks.cases --cases DIR`.

Each script shows one fault, and its last comment says what is right; the tests of that are tests/test_cases_*.py.
Here a script passes where it ends in its time and no traceback is printed but that of a UserError, which is a line, or
of what a UserError was raised from.
The last line is JSON: name -> seconds, whether it passes, and the end of what it printed.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.checkout import ROOT, environment

SECONDS = 300.0
_ONE_LINE = re.compile(r"^(learned_aggregation\.errors\.)?(UserError|RunError)\b", re.MULTILINE)


_CAUSE = "The above exception was the direct cause of the following exception"
_SILENT = re.compile(r"\.splitlines\(\)\[-1\].*\n[\s~^]*\nIndexError: list index out of range\s*$")
"""A script that shows the last line on stderr ends so where there is none: what it started has succeeded."""


def passes(printed: str) -> bool:
    """Whether every traceback in it ends in an error of ours, or in the silence of a script that shows errors."""
    parts = printed.split("Traceback (most recent call last)")[1:]
    return all(_CAUSE in part or _ONE_LINE.search(part) or _SILENT.search(part) for part in parts)


def run(script: Path) -> dict:
    """Runs one script from the checkout's root, against the checkout."""
    command = ["bash", str(script)] if script.suffix == ".sh" else [sys.executable, str(script)]
    began = time.monotonic()
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment(ROOT) | {"LA": str(ROOT), "PY": sys.executable},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
            check=False,
        )
        printed, ended = done.stdout.decode(errors="replace"), True
    except subprocess.TimeoutExpired as error:
        printed, ended = (error.stdout or b"").decode(errors="replace"), False
    seconds = round(time.monotonic() - began, 1)
    return {"passes": ended and passes(printed), "seconds": seconds, "printed": printed[-2000:]}


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0 also where a script does not pass: the JSON says so."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = os.path.normpath(ROOT.parent / "shared" / "cases")
    parser.add_argument("--cases", type=Path, default=Path(default), help="the scripts' directory")
    parser.add_argument("names", nargs="*", help="the numbers of those to run; all")
    asked = parser.parse_args(argv)
    scripts = sorted(path for path in asked.cases.iterdir() if re.match(r"\d\d_.*\.(sh|py)$", path.name))
    if not scripts:
        parser.error(f"--cases: expected scripts such as 01_name.sh, got none in {asked.cases}.")
    found = {}
    for script in scripts:
        if not asked.names or script.name[:2] in asked.names:
            found[script.stem] = run(script)
            print(f"== {script.name}\n{found[script.stem]['printed']}", flush=True)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
