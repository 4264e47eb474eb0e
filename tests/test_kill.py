"""SIGKILL at random moments of a run, each time resumed: the end is that of the run never killed.

`python -m pytest tests/test_kill.py -m slow -s` prints where each kill landed.
"""

import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest
from tiny_run import CHECKPOINTS, FLAGS, RUN, files_below, metrics, saved_state

from learned_aggregation.runs.checkpoint import Checkpointer
from learned_aggregation.runs.checkpoint_files import verified_meta

MAIN = Path(__file__).resolve().parent.parent / "src" / "main.py"
STEPS = 200
KILLS = 24
SEED = 1
TIMEOUT = 300


class Life(NamedTuple):
    """One process from its start to its kill. rows: of metrics.csv, before and after it."""

    flag: str
    seconds: float
    rows: tuple[int, int]
    latest: int | None
    landed: str


def _start(directory: Path, *flags: str) -> subprocess.Popen:
    command = [sys.executable, MAIN, *FLAGS, f"--num_outer_steps={STEPS}", "--save_iter=2", *flags]
    # Compiled once, by the run that is not killed; the others read it, and train sooner.
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(directory.parent / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    with open(directory / "stderr", "wb") as stderr:
        return subprocess.Popen(
            [*command, "--checkpoints_to_keep=3"], cwd=directory, env=os.environ | cache, stderr=stderr
        )


def _finish(directory: Path, *flags: str) -> None:
    process = _start(directory, *flags)
    assert process.wait(TIMEOUT) == 0, (directory / "stderr").read_text()


def _rows(directory: Path) -> int:
    path = directory / RUN / "metrics.csv"
    return max(0, path.read_bytes().count(b"\n") - 1) if path.exists() else 0


def _live(directory: Path, random_: random.Random, starting: float) -> Life:
    """Runs until a random moment: one in four while starting up, the others some steps into the training."""
    has_checkpoint = (directory / CHECKPOINTS / "latest").exists()
    flag = "--from_checkpoint" if has_checkpoint and random_.random() < 0.5 else "--auto_resume"
    before, unfinished, began = _rows(directory), _unfinished(directory), time.monotonic()
    process = _start(directory, flag)
    try:
        if random_.random() < 0.25:
            time.sleep(random_.uniform(0, starting))
        else:
            target = before + random_.randint(1, 5)
            while _rows(directory) < target and process.poll() is None:
                assert time.monotonic() < began + TIMEOUT
                time.sleep(0.002)
            time.sleep(random_.uniform(0, 0.15))
    finally:
        process.kill()
    assert process.wait() == -9, (directory / "stderr").read_text()
    rows = before, _rows(directory)
    latest = Checkpointer(directory / CHECKPOINTS, keep=3).latest_step()
    return Life(flag, time.monotonic() - began, rows, latest, _landed(directory, rows, unfinished))


def _unfinished(directory: Path) -> set[tuple[str, int]]:
    """The hidden files of saves that were cut, each with the time of its making."""
    found = (directory / CHECKPOINTS).glob(".*")
    return {(path.name, path.stat().st_ctime_ns) for path in found}


def _landed(directory: Path, rows: tuple[int, int], unfinished: set[tuple[str, int]]) -> str:
    """What the kill hit, from what it left behind and what was left before."""
    checkpoints = Checkpointer(directory / CHECKPOINTS, keep=3)
    steps = checkpoints.steps()
    for step in steps:
        verified_meta(checkpoints.directory / f"global_step{step}")
    if _unfinished(directory) - unfinished or (steps and checkpoints.latest_step() != steps[-1]):
        return "saving"
    return "start-up" if rows[1] <= rows[0] else "between saves"


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_as_if_never_killed(tmp_path):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    undisturbed.mkdir()
    killed.mkdir()
    began = time.monotonic()
    _finish(undisturbed)
    print(f"\nundisturbed: {STEPS} outer steps in {time.monotonic() - began:.0f} s")
    random_, lives, starting = random.Random(SEED), [], 5.0
    for number in range(1, KILLS + 1):
        life = _live(killed, random_, starting)
        lives.append(life)
        print(
            f"kill {number:2}: {life.flag:17} after {life.seconds:4.1f} s, rows {life.rows[0]:3} -> "
            f"{life.rows[1]:3}, latest {life.latest!s:>4}: {life.landed}",
            flush=True,
        )
    _finish(killed, "--from_checkpoint")
    landed = Counter(life.landed for life in lives)
    print(f"{len(lives)} kills: {dict(landed)}; {time.monotonic() - began:.0f} s in all")
    assert landed["saving"] + landed["between saves"] >= KILLS // 2

    same_theta, same_rows = (
        files_below(undisturbed / CHECKPOINTS)[f"global_step{STEPS}.safetensors"]
        == files_below(killed / CHECKPOINTS)[f"global_step{STEPS}.safetensors"],
        metrics(undisturbed) == metrics(killed),
    )
    same_state = saved_state(undisturbed) == saved_state(killed)
    print(f"equal bit for bit: theta {same_theta}, whole state {same_state}, metrics.csv {same_rows}")
    assert (same_theta, same_state, same_rows) == (True, True, True)
    assert len(metrics(killed)) == STEPS
    assert not [name for name in os.listdir(killed / CHECKPOINTS) if name.startswith(".")]
