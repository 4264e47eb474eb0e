"""Seconds, results and the memory of each worker of a command that runs pytest: `python -m benchmarks.suite COMMAND`.

python -m benchmarks.suite make test
python -m benchmarks.suite python -m pytest tests/test_golden_round.py

Prints what the command prints, then one line of JSON. The exit status is 0 also where tests fail: the JSON says so.
The command's pytest loads this file as a plugin: each of its processes leaves a line with its peak memory.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from benchmarks.checkout import ROOT

DIRECTORY = "LEARNED_AGGREGATION_SUITE"
"""The environment variable that says where the lines go."""


def peaks_mb() -> dict[str, float]:
    """own: the peak of this process; children: the largest peak of a process that it started and waited for."""
    who = {"own": resource.RUSAGE_SELF, "children": resource.RUSAGE_CHILDREN}
    unit = 1024 if sys.platform == "darwin" else 1
    return {name: resource.getrusage(one).ru_maxrss / unit / 1024 for name, one in who.items()}


def pytest_sessionfinish() -> None:
    """pytest's hook, in its main process and in each worker."""
    directory = os.environ.get(DIRECTORY)
    if directory:
        worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
        Path(directory, f"{worker}.json").write_text(json.dumps(peaks_mb()))


def counts(junit: Path) -> dict[str, int]:
    """Tests of a JUnit file by how they ended."""
    found = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    for suite in ElementTree.parse(junit).iter("testsuite"):
        for name in found:
            found[name] += int(suite.get(name, 0))
    return found


def measure(command: Sequence[str]) -> dict[str, Any]:
    """status, seconds, counts of tests, and peaks: process -> megabytes; no counts where pytest did not run."""
    with tempfile.TemporaryDirectory() as directory:
        junit = Path(directory, "junit.xml")
        options = f"-p benchmarks.suite --junitxml={junit} {os.environ.get('PYTEST_ADDOPTS', '')}"
        environment = os.environ | {"PYTEST_ADDOPTS": options.strip(), DIRECTORY: directory}
        command = [sys.executable if part == "python" else part for part in command]
        start = time.perf_counter()
        status = subprocess.run(command, cwd=ROOT, env=environment).returncode
        found = {"status": status, "seconds": time.perf_counter() - start}
        if junit.is_file():
            found |= counts(junit)
        peaks = {path.stem: json.loads(path.read_text()) for path in sorted(Path(directory).glob("*.json"))}
        return found | {"peaks_mb": peaks}


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    print(json.dumps(measure(sys.argv[1:])))
