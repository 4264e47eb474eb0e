"""500 generated configs and command lines: each is a run or one line; no traceback, none over its time.

`python -m pytest -m slow tests/test_cases_generated.py` runs them in this process, on a tiny problem; a run that is
accepted goes as far as its program, which is not compiled: how it computes is what the other tests are for.
"""

import ast
import json
import shlex
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import tiny_run
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from learned_aggregation import cli
from learned_aggregation.config.settings import RUN_TYPES, SETTINGS
from learned_aggregation.jobs import benchmark, compare, kept_curves, meta_train, sweep
from learned_aggregation.meta_testing.program import Curves

EXAMPLES = 500
SECONDS = 60.0
"""Of a run; a data set is built in some of them."""
BASE = shlex.split(
    "--task=mlp4_digits_8 --num_grads=2 --num_local_steps=1 --local_batch_size=4 --num_inner_steps=9 --num_runs=1 "
    "--truncation_length=2 --truncation_schedule_min_length=2 --num_tasks=1 --hidden_size=4 --num_outer_steps=1"
)
LOCAL = ("coordinator_address", "num_processes", "tfds_download", "tracker", "sweep_engine", "num_devices")
"""Left alone: they would reach beyond this process."""
NAMES = [row.name for row in SETTINGS.values() if row.name not in LOCAL]

WRONG = st.one_of(
    st.text(max_size=20),
    st.integers(-(10**20), 10**20).map(str),
    st.floats(width=64).map(str),
    st.sampled_from(
        ["None", "True", "[]", "{}", "1e999", "[" * 500, "a\0b", "x" * 300, "~", "..", "1,2", "-1", "0"]
    ),
)


def _right(name: str) -> st.SearchStrategy[str]:
    """Values that the setting's kind may take, near its default and small."""
    row = SETTINGS[name]
    if isinstance(row.default, bool):
        return st.sampled_from(["True", "False"])
    if row.kind.metavar == "N":
        return st.integers(0, 9).map(str)
    if row.kind.metavar == "X":
        return st.floats(0.0, 1.0).map(str)
    if name == "run_type":
        return st.sampled_from(RUN_TYPES)
    return st.sampled_from(
        ["None", str(row.default), "mean", "mup", "iid", "digits", "fedavg", "lagg-set", "out/x"]
    )


PAIR = st.sampled_from(NAMES).flatmap(lambda name: st.tuples(st.just(name), st.one_of(_right(name), WRONG)))
SWEEPS = st.fixed_dictionaries(
    {"method": st.sampled_from(["grid", "random", "bayes"])},
    optional={
        "run_cap": st.sampled_from([1, 2, 0, 2**31, "a"]),
        "parameters": st.dictionaries(
            st.sampled_from(["beta", "local_learning_rate", "local_batch_size", "seed", "zz"]),
            st.sampled_from(
                [
                    {"values": [0.1, 0.5]},
                    {"value": 4},
                    {"min": 0.1, "max": 0.9},
                    {"min": 2, "max": 8, "q": 2, "distribution": "q_uniform"},
                    {"min": 1, "max": 0},
                    {"distribution": "log_uniform", "min": 0.1, "max": 1.0},
                    3,
                ]
            ),
            max_size=3,
        ),
    },
)
GOOD = (
    *(
        "local_learning_rate",
        "beta",
        "dropout",
        "local_batch_size",
        "num_grads",
        "num_local_steps",
        "learning_rate",
    ),
    *(
        "num_runs",
        "eval_every",
        "eval_chunk",
        "keep_local_state",
        "log_every",
        "save_iter",
        "remat",
        "stream_threads",
    ),
    *(
        "perturbation_std",
        "problem_clip",
        "classes_per_client",
        "partition_alpha",
        "seed",
        "widen",
        "hidden_size",
    ),
)
"""Settings of which most small values fit each other."""
GOOD_PAIR = st.sampled_from(GOOD).flatmap(lambda name: st.tuples(st.just(name), _right(name)))
RULE = st.sampled_from(["fedavg", "fedavgm", "fedadam", "diloco", "fedlagg-set", "adam"])
NEEDED = {
    "sweep": {
        "sweep_config": {"method": "grid", "parameters": {"local_learning_rate": {"values": [0.1, 0.5]}}}
    },
    "compare": {
        "entrants": [{"label": "a", "optimizer": "fedavg", "sweep": {"local_learning_rate": [0.1, 0.5]}}]
    },
}
SEVERAL = st.lists(PAIR, max_size=3)
MOSTLY_GOOD = st.tuples(RULE, st.lists(GOOD_PAIR, max_size=3)).map(
    lambda drawn: [("optimizer", drawn[0]), *drawn[1]]
)
COMMANDS = st.tuples(
    st.sampled_from(RUN_TYPES),
    st.one_of(MOSTLY_GOOD, SEVERAL),
    st.booleans(),
    st.one_of(st.none(), st.none(), SWEEPS),
)


def _literal(text: str) -> str:
    """A value as it stands in a file: a number is one there, and no text."""
    try:
        return repr(ast.literal_eval(text))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return repr(text)


class _Runner:
    """In the place of compiled programs."""

    streams = False

    def __init__(self, config, loaded, theta, splits):
        self.splits = splits

    def run(self, points, seeds, what):
        losses = np.ones((len(seeds), 2), np.float32)
        found = {f"{split}_{name}": losses for split in self.splits for name in ("loss", "accuracy")}
        return [Curves(losses, np.array([0, 2]), found) for _ in points]

    def run_saved(self, points, seeds, what, saving, keep):
        return self.run(points, seeds, what)


class _Stopped(Exception):
    """A meta-training was accepted, and would compile now."""


def _stop(*_, **__):
    raise _Stopped


@seed(0)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
    database=None,
)
@given(COMMANDS)
def _each(found, directory, capsys, command):
    """Adds (status, seconds) to `found`."""
    run_type, pairs, in_a_file, sweep_config = command
    path = Path(tempfile.mkdtemp(dir=directory))  # a failing one is tried again
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        argv = [*BASE, f"--run_type={run_type}"]
        settings_of_type = dict(NEEDED.get(run_type, {})) | (
            {"sweep_config": sweep_config} if sweep_config else {}
        )
        lines = [f"{name} = {value!r}\n" for name, value in settings_of_type.items()]
        if in_a_file:
            lines += [f"{name} = {_literal(value)}\n" for name, value in pairs]
        else:
            argv += [f"--{name}={value}" for name, value in pairs]
        if lines:
            Path("a.py").write_text("".join(lines), encoding="utf-8", errors="replace")
            argv.append("--config=a.py")
        began = time.monotonic()
        try:
            status = cli.main(argv)
        except _Stopped:
            status = 0
        lasted = time.monotonic() - began
    printed = capsys.readouterr().err.splitlines()
    errors = [line for line in printed if line.startswith("error: ")]
    found.append((status, lasted))
    assert status in (0, 1, 2), shlex.join(argv)
    assert len(errors) == (status != 0), (argv, printed)
    assert status == 0 or printed[-1] == errors[0], (argv, printed)
    assert lasted < SECONDS, argv


@pytest.mark.slow
def test_a_run_or_one_line(tmp_path, monkeypatch, capsys):
    tiny_run.run_here(monkeypatch, tmp_path)
    for job in (benchmark, kept_curves, sweep):
        monkeypatch.setattr(job, "GroupRunner", _Runner)
    for job in (benchmark, compare, sweep):
        monkeypatch.setattr(job, "write_report", lambda path: path)
    monkeypatch.setattr(meta_train, "meta_train", _stop)
    found: list = []
    _each(found, tmp_path, capsys)
    counts = {status: sum(s == status for s, _ in found) for status in (0, 1, 2)}
    summary = {"tried": len(found), "status": counts, "longest_s": round(max(t for _, t in found), 1)}
    with capsys.disabled():
        print(f"\n{json.dumps(summary)}")
    assert len(found) >= EXAMPLES
    assert min(counts[0], counts[2]) > 20  # both ends are reached
